"""What `main.py` calls: training and evaluation of a configuration, with their exit codes."""

import json
import os
import pathlib
import sys
import traceback
from collections.abc import Callable
from typing import Any

from absl import app

from cluenet_jax import runtime
from cluenet_jax.cli.main import quiet
from cluenet_jax.cli.recipes import recipe_errors
from cluenet_jax.errors import Interrupted, UserError


def train(config: Any, workdir: str | None) -> None:
    """Trains and prints the last metrics."""
    import jax

    from cluenet_jax.train.loop import train_and_evaluate

    if config is None:
        raise UserError("Training needs a recipe, such as --config=configs/digits.py.")
    metrics = train_and_evaluate(config, workdir)
    if jax.process_index() == 0:
        print(", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
        print(f"Checkpoints and metrics: {workdir}")


def evaluate(config: Any, path: str | None, json_file: str | None) -> None:
    """Evaluates a checkpoint, prints its metrics and writes them to a file."""
    import jax

    from cluenet_jax.evaluation import evaluate_checkpoint

    if path is None:
        raise UserError("--mode=eval needs --checkpoint=DIR.")
    evaluation = evaluate_checkpoint(path, config)
    if jax.process_index() == 0:
        print(evaluation.to_text())
        if json_file:
            pathlib.Path(json_file).write_text(json.dumps(evaluation.to_json(), indent=1) + "\n")


def run(
    work: Callable[..., None], *arguments: Any, hosts: tuple = (), debug_nans: bool = False
) -> None:
    """Runs `work(*arguments)` in this process of a run.

    Exit codes: 2 and one message for errors that a user can fix; 143 after SIGTERM and 130
    after Ctrl-C (143 with many processes), with everything saved; 75 if another process of the
    run was lost; 1 with a traceback for errors of ours.

    Args:
      work: `train` or `evaluate`.
      *arguments: Of `work`.
      hosts: Of `initialize_distributed`.
      debug_nans: Whether to stop at the operation that makes a NaN.
    """
    quiet()
    runtime.prepare()
    # Imported late: `--help` and misspelled flags answer at once.
    import jax

    from cluenet_jax.train.sharding import initialize_distributed

    if debug_nans:
        jax.config.update("jax_debug_nans", True)
    try:
        initialize_distributed(*hosts)
        work(*arguments)
    except Interrupted as end:
        print(end, file=sys.stderr)
        sys.exit(end.code)
    except UserError as error:
        _end(f"Error: {error}", 2)
    except Exception as error:
        if jax.process_count() == 1:
            raise
        _end_one_of_many(error)


def _end_one_of_many(error: Exception) -> None:
    import jax

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
        "hosts resumes from the last checkpoint.",
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


def parse_flags(argv: list[str], config: Any, program: str) -> list[str]:
    """Parses flags; a misspelled setting or recipe ends in one message, not a traceback.

    Args:
      argv: The command line.
      config: The flag that holds the configuration.
      program: The path of the program, beside which `configs/` is.
    """
    try:
        with recipe_errors(pathlib.Path(program).parent):
            remaining = app.parse_flags_with_usage(argv)
            # A recipe that failed to load raises only when it is used.
            getattr(config.value, "seed", None)
            return remaining
    except UserError as error:
        sys.exit(f"Error: {error}")
