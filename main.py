"""Trains or evaluates a network: `python main.py --config=configs/cifar100.py --workdir=DIR`.

Intentionally short: the work is done in `cluenet_jax`, where it can be tested.
"""

import json
import os
import pathlib
import sys
import traceback

from absl import app, flags
from ml_collections import config_flags

from cluenet_jax import cli, runtime
from cluenet_jax.errors import Interrupted, UserError

FLAGS = flags.FLAGS

_CONFIG = config_flags.DEFINE_config_file("config", None, "The recipe, a file of configs/.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Checkpoints and metrics; runs/NAME_OF_THE_CONFIG by default."
)
_MODE = flags.DEFINE_enum("mode", "train", ["train", "eval"], "What to do.")
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "For --mode=eval: a workdir or WORKDIR/checkpoints/STEP; no config needed."
)
_JSON = flags.DEFINE_string("json", None, "For --mode=eval: a file for all scores.")
_DEBUG_NANS = flags.DEFINE_bool("debug_nans", False, "Stop at the operation that makes a NaN.")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "Many hosts: address:port of the first.")
_PROCESSES = flags.DEFINE_integer("num_processes", None, "Many hosts: how many.")
_PROCESS = flags.DEFINE_integer("process_id", None, "Many hosts: the number of this one, from 0.")


def main(argv: list[str]) -> None:
    """Runs the chosen mode.

    Exit codes: 2 and one message for errors that a user can mend; 143 after SIGTERM and 130
    after Ctrl-C (143 with many processes), with everything saved; 75 if another process of the
    run was lost; 1 with a traceback for errors of ours.
    """
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {' '.join(argv[1:])}")
    cli.quiet()
    runtime.prepare()
    # Imported late: `--help` and misspelt flags answer at once.
    import jax

    from cluenet_jax.train import loop, sharding

    config = _CONFIG.value
    workdir = _WORKDIR.value
    if workdir is None and config is not None:
        recipe = config_flags.get_config_filename(FLAGS["config"]).split(":")[0]
        workdir = os.path.join("runs", pathlib.Path(recipe).stem)
    if _DEBUG_NANS.value:
        jax.config.update("jax_debug_nans", True)
    try:
        sharding.join_hosts(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
        first = jax.process_index() == 0
        if _MODE.value == "train":
            if config is None:
                raise UserError("Training needs a recipe, such as --config=configs/digits.py.")
            scores = loop.train_and_evaluate(config, workdir)
            if first:
                print(", ".join(f"{name} {score:.4f}" for name, score in scores.items()))
                print(f"Checkpoints and metrics: {workdir}")
            return
        path = _CHECKPOINT.value or workdir
        if path is None:
            raise UserError("--mode=eval needs --checkpoint=DIR.")
        evaluation = loop.evaluate_checkpoint(path, config)
        if first:
            print(evaluation.to_text())
            if _JSON.value:
                pathlib.Path(_JSON.value).write_text(json.dumps(evaluation.to_json(), indent=1))
    except Interrupted as end:
        print(end, file=sys.stderr)
        sys.exit(end.code)
    except UserError as error:
        _end(f"Error: {error}", 2)
    except Exception as error:
        if jax.process_count() == 1:
            raise
        reason = " ".join(str(error).split())[:300]
        message = (
            f"Error: process {jax.process_index()} of {jax.process_count()} stops here ({reason})."
        )
        of_runtime = isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in reason
        if not of_runtime or "RESOURCE_EXHAUSTED" in reason:
            traceback.print_exc()
            _end(message, 1)
        _end(
            f"{message} If another one was lost, its own log says why. The same command on all "
            "hosts goes on from the last checkpoint.",
            75,
        )


def _end(message: str, code: int) -> None:
    """Ends this process, and so the run: the others notice a connection that closes."""
    import jax

    print(message, file=sys.stderr, flush=True)
    if jax.process_count() > 1:
        # The usual way out would wait for all processes, which wait for this one.
        os._exit(code)
    sys.exit(code)


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
    app.run(main, flags_parser=parse_flags)
