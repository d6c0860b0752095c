"""Recipes on command lines: their overrides, and errors without tracebacks."""

import contextlib
import pathlib
from collections.abc import Iterator

import ml_collections
from absl import flags
from ml_collections import config_flags

from cluenet_jax.errors import UserError


@contextlib.contextmanager
def recipe_errors(folder: pathlib.Path) -> Iterator[None]:
    """Turns what a misspelled setting or recipe raises into a UserError.

    Args:
      folder: Beside whose `configs/` recipes are.
    """
    try:
        yield
    except flags.Error as error:
        raise UserError(str(error)) from error
    except (AttributeError, KeyError) as error:
        # ml_collections quotes its message once more.
        message = str(error).strip("\"'").replace("\\n", " ").replace("\\'", "'")
        raise UserError(f"the config has no setting {message}") from error
    except (OSError, ImportError) as error:
        known = sorted(str(path) for path in folder.glob("configs/*.py"))
        raise UserError(f"{error}\nRecipes: {', '.join(known)}") from error


def load_recipe(argv: list[str]) -> ml_collections.ConfigDict:
    """The configuration of `--config=FILE` with its overrides, `--config.SECTION.KEY=VALUE`.

    Raises:
      UserError: There is no such recipe, setting or flag.
    """
    values = flags.FlagValues()
    line = ["recipe", *argv]
    with recipe_errors(pathlib.Path()):
        config = config_flags.DEFINE_config_file(
            "config", None, "The recipe.", flag_values=values, sys_argv=line
        )
        unknown = values(line)[1:]
        if unknown:
            raise UserError(f"Unexpected arguments: {' '.join(unknown)}")
        # A recipe that failed to load raises only when it is used.
        getattr(config.value, "seed", None)
    if config.value is None:
        raise UserError("--config=FILE is missing: a recipe, such as configs/digits.py.")
    return config.value
