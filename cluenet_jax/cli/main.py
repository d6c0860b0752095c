"""What all command lines share: the verbs, quiet libraries, errors without tracebacks."""

import importlib
import logging
import os
import sys
from collections.abc import Callable

from absl import logging as absl_logging

from cluenet_jax import runtime
from cluenet_jax.errors import UserError

# Each is a module of this package with a `main(argv)`.
VERBS = {
    "predict": "results for image files",
    "evaluate": "metrics of a checkpoint on its evaluation set",
    "visualize": "what a model looks at, drawn",
    "explain": "how faithful a model's explanations are, in numbers",
    "demo": "a page to look through a model in a browser",
    "export": "a checkpoint as a program (StableHLO) or as PyTorch weights",
    "convert": "PyTorch weights as a checkpoint",
    "compile": "what a recipe needs on a slice of TPUs, without one",
    "summary": "modules, parameters and MACs of a model",
}


def main() -> None:
    """Runs the verb that the command line names."""
    verbs = "\n".join(f"  {verb:10} {purpose}" for verb, purpose in VERBS.items())
    usage = f"usage: python -m cluenet_jax VERB ...\n\nverbs (each has --help):\n{verbs}"
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    if verb in ("-h", "--help"):
        print(usage)
        sys.exit(0)
    if verb not in VERBS:
        print(f"{usage}\n\nError: {verb!r} is not a verb.", file=sys.stderr)
        sys.exit(2)
    run(importlib.import_module(f"cluenet_jax.cli.{verb}").main, sys.argv[2:])


def run(tool: Callable[[list[str]], int | None], argv: list[str]) -> None:
    """Runs a tool and ends the process.

    Args:
      tool: A function from arguments to an exit code (None for 0). A `UserError` ends in its
        message and code 2.
      argv: The arguments.
    """
    quiet()
    runtime.prepare()
    try:
        code = tool(argv)
        sys.stdout.flush()
        sys.exit(code)
    except BrokenPipeError:
        # Who reads our output, such as `head`, has ended; the rest of it goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)


def quiet() -> None:
    """Shows our own lines plainly, and of the libraries only errors."""
    absl_logging.use_absl_handler()
    absl_logging.set_verbosity(absl_logging.ERROR)
    absl_logging.get_absl_handler().setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("cluenet_jax").setLevel(logging.INFO)
