"""Metrics of a run: a progress bar, `metrics.jsonl` and TensorBoard events."""

import contextlib
import json
import logging
import math
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import jax
import tensorboardX
import tqdm
from etils import epath

from cluenet_jax.checkpoints.storage import is_bucket
from cluenet_jax.errors import UserError

_LOG = logging.getLogger(__name__)
METRICS, EVENTS = "metrics.jsonl", "tensorboard"


class MetricWriter:
    """Writes the metrics of one run; only the main process writes.

    Args:
      workdir: Where `metrics.jsonl` and `tensorboard/` go.
      start_step: Steps already taken. Whatever an interrupted run wrote after
        it is dropped, so that no step is recorded twice.
      total_steps: Steps of the whole run.
      batch_size: Images per step.
      active: Whether this process writes.
    """

    def __init__(
        self,
        workdir: epath.Path,
        start_step: int,
        total_steps: int,
        batch_size: int,
        active: bool = True,
    ):
        self._active = active
        self._batch_size = batch_size
        self._pending: tuple[int, dict[str, jax.Array]] | None = None
        self._last: tuple[int, float] | None = None
        self._waited = 0.0
        if not active:
            return
        records = []
        if (workdir / METRICS).exists():
            records = [r for r in read_metrics(workdir / METRICS) if r["step"] <= start_step]
        # Buckets know no appending: there, whole files are copied at every `sync`.
        self._workdir, self._local = workdir, workdir
        if is_bucket(workdir):
            self._local = epath.Path(tempfile.mkdtemp(prefix="cluenet_jax_"))
        self._path = self._local / METRICS
        self._path.write_text("".join(_line(record) for record in records))
        self._events = tensorboardX.SummaryWriter(
            str(self._local / EVENTS), purge_step=start_step + 1
        )
        # Only on a terminal; log files get a line per evaluation.
        self._bar = tqdm.tqdm(
            total=total_steps, initial=start_step, disable=None, unit="step", dynamic_ncols=True
        )

    @contextlib.contextmanager
    def time_input(self) -> Iterator[None]:
        """Times what waits for input; its fraction of the time is recorded as `input_wait`."""
        begin = time.perf_counter()
        yield
        self._waited += time.perf_counter() - begin

    def step(self, step: int, metrics: dict[str, jax.Array] | None = None) -> None:
        """Records that a step was sent to the device; its `metrics` are written later.

        They are read when the next step is on its way, so that the device never
        waits for the host.
        """
        if self._active:
            self.flush()
            self._bar.update()
            if metrics is not None:
                self._pending = (step, metrics)

    def flush(self) -> None:
        """Writes the metrics of the step that is still pending."""
        if self._pending is None:
            return
        (step, metrics), self._pending = self._pending, None
        values = {name: value.item() for name, value in jax.device_get(metrics).items()}
        before, self._last = self._last, (step, time.perf_counter())
        if before is not None:
            seconds = self._last[1] - before[1]
            speed = (step - before[0]) * self._batch_size / seconds
            values["images_per_s"] = speed
            values["input_wait"] = min(self._waited / seconds, 1.0)
            self._bar.set_postfix_str(f"loss {values['loss']:.4f}, {speed:.0f} images/s", False)
        self._waited = 0.0
        self._append(step, {f"step/{name}": value for name, value in values.items()})

    def sync(self) -> None:
        """Puts everything recorded so far on disk, so that a kill cannot take it."""
        self.flush()
        if self._active:
            self._events.flush()
            self._copy()

    def write(self, step: int, **metrics: float) -> None:
        """Appends one record; names are such as `eval/loss`."""
        if self._active:
            self.flush()
            self._append(step, metrics)
            # What is recorded between steps is no training.
            self._last = None

    def log(self, text: str) -> None:
        """Prints a line without breaking the progress bar."""
        if not self._active:
            return
        if self._bar.disable:
            _LOG.info("%s", text)
        else:
            self._bar.write(text)

    def close(self) -> None:
        """Writes what is pending and closes all files."""
        if self._active:
            self.flush()
            self._bar.close()
            self._events.close()
            self._copy()
            if self._local != self._workdir:
                self._local.rmtree()

    def _copy(self) -> None:
        if self._local == self._workdir:
            return
        try:
            (self._workdir / EVENTS).mkdir(parents=True, exist_ok=True)
            for file in (self._path, *(self._local / EVENTS).iterdir()):
                (self._workdir / file.relative_to(self._local)).write_bytes(file.read_bytes())
        except Exception as error:  # Clients of buckets raise whatever they meet.
            raise UserError(
                f"Metrics could not be written to {self._workdir} ({error}). The same command "
                "resumes from the last checkpoint."
            ) from error

    def _append(self, step: int, values: dict[str, float]) -> None:
        with self._path.open("a") as file:
            file.write(_line({"step": step, **values}))
        for name, value in values.items():
            self._events.add_scalar(name, value, step)


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
    # JSON knows no NaN and no infinity: they are written as words.
    def plain(value: float | str) -> float | str:
        return str(value) if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps({name: plain(value) for name, value in record.items()}) + "\n"
