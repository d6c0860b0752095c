"""Trains or evaluates a model: `python main.py --config=configs/cifar100.py --workdir=DIR`.

Intentionally short: the work is done in `cluenet_jax`, where it can be tested.
"""

import os
import pathlib

from absl import app, flags
from ml_collections import config_flags

from cluenet_jax.cli import train

FLAGS = flags.FLAGS

_CONFIG = config_flags.DEFINE_config_file("config", None, "The recipe, a file of configs/.")
flags.DEFINE_string("workdir", None, "Checkpoints and metrics; by default runs/CONFIG's name.")
flags.DEFINE_enum("mode", "train", ["train", "eval"], "What to do.")
flags.DEFINE_string(
    "checkpoint", None, "For --mode=eval: a workdir, a step's folder, a file or a name."
)
flags.DEFINE_string("json", None, "For --mode=eval: a file for all metrics.")
flags.DEFINE_bool("debug_nans", False, "Stop at the operation that makes a NaN.")
flags.DEFINE_string("coordinator", None, "Many hosts: address:port of the main process.")
flags.DEFINE_integer("num_processes", None, "Many hosts: how many.")
flags.DEFINE_integer("process_id", None, "Many hosts: the number of this one, from 0.")


def main(argv: list[str]) -> None:
    """Runs the chosen mode; `cluenet_jax.cli.train.run` lists the exit codes."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {' '.join(argv[1:])}")
    workdir = FLAGS.workdir
    if workdir is None and _CONFIG.value is not None:
        recipe = config_flags.get_config_filename(FLAGS["config"]).split(":")[0]
        workdir = os.path.join("runs", pathlib.Path(recipe).stem)
    hosts = (FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id)
    if FLAGS.mode == "train":
        train.run(train.train, _CONFIG.value, workdir, hosts=hosts, debug_nans=FLAGS.debug_nans)
    else:
        path = FLAGS.checkpoint or workdir
        train.run(train.evaluate, _CONFIG.value, path, FLAGS.json, hosts=hosts)


if __name__ == "__main__":
    app.run(main, flags_parser=lambda argv: train.parse_flags(argv, _CONFIG, __file__))
