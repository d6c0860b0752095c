"""Whole runs of `main.py`, in processes of their own."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

from tests.helpers.compilation import xla_flags
from tests.helpers.images import image_folder
from tests.helpers.models import SMALL_CLUENET

ROOT = pathlib.Path(__file__).parent.parent.parent
STEPS = 20
SIZES = tuple(f"--config.model.cluenet.{name}={value}" for name, value in SMALL_CLUENET.items())
# Steps on 40 images of two classes.
CLASSIFICATION = (
    "--config=configs/image_folder.py:16",
    "--config.model.backbone=cluenet_nano",
    *SIZES,
    "--config.optim.batch_size=8",
    "--config.optim.peak_lr=2e-3",
    "--config.optim.epochs=4",
    "--config.optim.warmup_epochs=1",
    "--config.eval.batch_size=8",
    "--config.checkpoint.every=0.4",
    "--config.eval.every=2",
    "--config.train.log_every=1",
)
# Metrics that differ between equal runs.
SPEEDS = ("step/images_per_s", "step/input_wait")


class Runner:
    """Starts `main.py`; compiled programs are kept for the next one.

    Args:
      folder: For images and workdirs.
      cache: For compiled programs.
      recipe: Flags of every run; by default those of a classification of images in `folder`.
    """

    def __init__(self, folder: pathlib.Path, cache: pathlib.Path, recipe: tuple[str, ...] = ()):
        self.folder, self.cache, self.recipe = folder, cache, recipe
        if not recipe:
            images = image_folder(folder / "images", train=20, test=7, side=16)
            self.recipe = (*CLASSIFICATION, f"--config.data.dir={images}")

    def start(self, workdir: str, *flags: str, devices: int = 1) -> subprocess.Popen:
        command = [sys.executable, "main.py", *self.recipe]
        command += [f"--workdir={self.folder / workdir}", *flags]
        environment = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": xla_flags(devices),
            "JAX_COMPILATION_CACHE_DIR": str(self.cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def start_many(self, count: int, workdir: str, *flags: str) -> list[subprocess.Popen]:
        """The processes of a run over `count` hosts, one device each."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        hosts = [f"--coordinator=127.0.0.1:{port}", f"--num_processes={count}", *flags]
        return [self.start(workdir, *hosts, f"--process_id={i}") for i in range(count)]

    def wait_for_step(self, workdir: str, processes: list[subprocess.Popen], step: int) -> None:
        metrics = self.folder / workdir / "metrics.jsonl"
        deadline = time.monotonic() + 900
        while not metrics.exists() or f'"step": {step}' not in metrics.read_text():
            for process in processes:
                assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def run(self, workdir: str, *flags: str, devices: int = 1, code: int = 0) -> str:
        process = self.start(workdir, *flags, devices=devices)
        output, _ = process.communicate(timeout=900)
        assert process.returncode == code, output
        return output

    def kill_and_resume(self, workdir: str, step: int) -> int:
        """Kills a run after a step and starts it again, to its end; from which step it resumed."""
        process = self.start(workdir)
        self.wait_for_step(workdir, [process], step)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        output = self.run(workdir)
        return int(output.split("Resuming after step ")[1].split()[0].strip(".,:"))

    def records(self, workdir: str) -> list[dict]:
        return records_of(self.folder / workdir)


def records_of(workdir) -> list[dict]:
    """What equal runs record alike, of a folder on a disk or in a bucket."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in SPEEDS} for line in lines]
