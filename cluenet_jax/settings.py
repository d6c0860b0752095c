"""What values a setting takes, and the error for any other."""

import dataclasses
import math
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any

import ml_collections

from cluenet_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Takes:
    """The values that a setting takes.

    Attributes:
      description: What they are, for errors.
      accepts: Whether a value is one of them.
    """

    description: str
    accepts: Callable[[Any], bool]


def flag() -> Takes:
    """True or False."""
    return Takes("True or False", lambda value: isinstance(value, bool))


def text() -> Takes:
    """Any text."""
    return Takes("a text", lambda value: isinstance(value, str))


def one_of(names: Collection[str]) -> Takes:
    """One of some names."""
    return Takes(f"one of {', '.join(names)}", lambda value: value in tuple(names))


def integer(least: int, most: int | None = None) -> Takes:
    """A whole number of at least `least` (and at most `most`)."""
    description = f"a whole number of at least {least}" + (f", at most {most}" if most else "")

    def accepts(value: Any) -> bool:
        return _is_integer(value) and least <= value and (most is None or value <= most)

    return Takes(description, accepts)


def number(
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> Takes:
    """A finite number within bounds, which count as inside (least, most) or not (above, below)."""
    bounds = {"at least": least, "above": above, "at most": most, "below": below}
    parts = [f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None]

    def accepts(value: Any) -> bool:
        return (
            (_is_integer(value) or isinstance(value, float))
            and math.isfinite(value)
            and (least is None or value >= least)
            and (most is None or value <= most)
            and (above is None or value > above)
            and (below is None or value < below)
        )

    return Takes(f"a finite number {' and '.join(parts)}".rstrip(), accepts)


def several(element: Takes, count: int | None = None, least: int = 1) -> Takes:
    """A tuple of `count` values, each as `element`; of `least` or more if None."""
    description = f"{count or f'{least} or more'} values, each {element.description}"

    def accepts(value: Any) -> bool:
        return (
            isinstance(value, tuple | list)
            and (len(value) == count if count else len(value) >= least)
            and all(map(element.accepts, value))
        )

    return Takes(description, accepts)


def interval(element: Takes) -> Takes:
    """Two values, each as `element`, the second at least the first."""
    pair = several(element, 2)
    return Takes(
        f"two values, the second at least the first, each {element.description}",
        lambda value: pair.accepts(value) and value[0] <= value[1],
    )


def optional(takes: Takes) -> Takes:
    """None, or what `takes` takes."""
    return Takes(
        f"None or {takes.description}", lambda value: value is None or takes.accepts(value)
    )


def of_hint(hint: Any) -> Takes:
    """What a field of this type hint takes at least: finite numbers of 0 or more."""
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)
        return several(of_hint(inner[0]), None if inner[-1] is Ellipsis else len(inner))
    return {bool: flag(), str: text(), int: integer(0), float: number(least=0)}[hint]


def check_settings(
    section: ml_collections.ConfigDict, name: str, table: Mapping[str, Takes]
) -> None:
    """Checks the settings of a section that `table` lists.

    Args:
      section: The section, or the whole configuration.
      name: Where it is in the configuration, such as "data"; "" for the whole.
      table: What each setting takes.

    Raises:
      UserError: Names the setting, its value, and what would be right.
    """
    for key, takes in table.items():
        path = f"{name}.{key}".lstrip(".")
        if not takes.accepts(section[key]):
            raise UserError(f"config.{path}={section[key]!r}: takes {takes.description}.")


def require(condition: bool, key: str, value: Any, reason: str) -> None:
    """Raises a UserError on the setting `config.KEY` unless `condition` holds."""
    if not condition:
        raise UserError(f"config.{key}={value!r}: {reason}.")


def check_batch_size(value: int, key: str, device_count: int) -> None:
    """Raises a UserError unless a batch divides over the devices."""
    valid = _is_integer(value) and value > 0
    example = max(value // device_count, 1) * device_count if valid else device_count
    require(
        valid and value % device_count == 0,
        key,
        value,
        f"must be a positive multiple of the {device_count} devices, for example {example}",
    )


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
