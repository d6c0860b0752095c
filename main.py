"""Trains or evaluates a network: `python main.py --config=configs/cifar100.py --workdir=DIR`.

Intentionally short: the work is done in `cluenet_jax`, where it can be tested.
"""

import logging
import os
import pathlib
import sys

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from cluenet_jax.errors import UserError

FLAGS = flags.FLAGS

_CONFIG = config_flags.DEFINE_config_file("config", None, "The recipe, a file of configs/.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Checkpoints and metrics; runs/NAME_OF_THE_CONFIG by default."
)
_MODE = flags.DEFINE_enum("mode", "train", ["train", "eval"], "What to do.")
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "For --mode=eval: a workdir or WORKDIR/checkpoints/STEP; the workdir."
)
_COORDINATOR = flags.DEFINE_string("coordinator", None, "Many hosts: address:port of the first.")
_PROCESSES = flags.DEFINE_integer("num_processes", None, "Many hosts: how many.")
_PROCESS = flags.DEFINE_integer("process_id", None, "Many hosts: the number of this one, from 0.")


def main(argv: list[str]) -> None:
    """Runs the chosen mode; errors that a user can mend end in one message and code 2."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {' '.join(argv[1:])}")
    # Imported late: `--help` and misspelt flags answer at once.
    import jax

    from cluenet_jax.train import loop, sharding

    name = pathlib.Path(config_flags.get_config_filename(FLAGS["config"])).stem
    workdir = _WORKDIR.value or os.path.join("runs", name.split(":")[0])
    try:
        sharding.join_hosts(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
        if _MODE.value == "train":
            scores = loop.train_and_evaluate(_CONFIG.value, workdir)
            logging.getLogger("cluenet_jax").info("Checkpoints and metrics: %s", workdir)
        else:
            scores = loop.evaluate_checkpoint(_CONFIG.value, _CHECKPOINT.value or workdir)
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    if jax.process_index() == 0:
        print(", ".join(f"{key} {value:.4f}" for key, value in scores.items()))


def parse_flags(argv: list[str]) -> list[str]:
    """Parses flags; a misspelt setting or recipe ends in one message, not a traceback."""
    try:
        rest = app.parse_flags_with_usage(argv)
        # A recipe that failed to load raises only when it is looked at.
        getattr(_CONFIG.value, "seed", None)
        return rest
    except (AttributeError, KeyError) as error:
        # ml_collections quotes its message once more.
        message = str(error).strip("\"'").replace("\\n", " ").replace("\\'", "'")
        sys.exit(f"Error: the config has no setting {message}")
    except (OSError, ImportError) as error:
        known = sorted(str(path) for path in pathlib.Path(__file__).parent.glob("configs/*.py"))
        sys.exit(f"Error: {error}\nRecipes: {', '.join(known)}")


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    # Our own lines, and only the warnings of the libraries.
    absl_logging.set_verbosity(absl_logging.WARNING)
    logging.getLogger("cluenet_jax").setLevel(logging.INFO)
    absl_logging.get_absl_handler().setFormatter(logging.Formatter("%(message)s"))
    app.run(main, flags_parser=parse_flags)
