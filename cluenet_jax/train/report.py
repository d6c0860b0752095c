"""What a run tells: a progress bar, `metrics.jsonl` and TensorBoard events."""

import json
import logging
import math
from typing import Any

import tensorboardX
import tqdm
from etils import epath

_LOG = logging.getLogger(__name__)


class Report:
    """Writes metrics of one run; only the first process writes.

    Args:
      workdir: Where `metrics.jsonl` and `tensorboard/` go.
      start_step: Steps already taken. Whatever an interrupted run wrote after
        it is dropped, so that no step stands twice.
      total_steps: Steps of the whole run.
      active: Whether this process writes.
    """

    def __init__(self, workdir: epath.Path, start_step: int, total_steps: int, active: bool):
        self._active = active
        if not active:
            return
        self._path = workdir / "metrics.jsonl"
        kept = []
        if self._path.exists():
            kept = [r for r in read_metrics(self._path) if r["step"] <= start_step]
        self._path.write_text("".join(_line(record) for record in kept))
        self._events = tensorboardX.SummaryWriter(
            str(workdir / "tensorboard"), purge_step=start_step + 1
        )
        # Only where someone watches; log files get a line per report.
        self._bar = tqdm.tqdm(
            total=total_steps, initial=start_step, disable=None, unit="step", dynamic_ncols=True
        )

    def step(self, images_per_s: float | None = None, loss: float | None = None) -> None:
        """Moves the progress bar by one step."""
        if not self._active:
            return
        if images_per_s is not None:
            self._bar.set_postfix_str(f"loss {loss:.4f}, {images_per_s:.0f} images/s", False)
        self._bar.update()

    def write(self, step: int, **metrics: float) -> None:
        """Appends one record; names are such as `train/loss`, values finite or not."""
        if not self._active:
            return
        with self._path.open("a") as file:
            file.write(_line({"step": step, **metrics}))
        for name, value in metrics.items():
            self._events.add_scalar(name, value, step)

    def say(self, text: str) -> None:
        """Prints a line without breaking the progress bar."""
        if not self._active:
            return
        if self._bar.disable:
            _LOG.info("%s", text)
        else:
            self._bar.write(text)

    def close(self) -> None:
        """Flushes and closes all files."""
        if self._active:
            self._bar.close()
            self._events.close()


def read_metrics(path: epath.Path) -> list[dict[str, Any]]:
    """The records of a `metrics.jsonl`; a last line cut short by a kill is left out."""
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            _LOG.warning("%s: dropped an incomplete line: %r", path, line)
    return records


def _line(record: dict[str, Any]) -> str:
    # JSON knows no NaN.
    finite = {k: v if math.isfinite(v) else str(v) for k, v in record.items()}
    return json.dumps(finite) + "\n"
