"""Skeletons: what the keypoints of a pose are called, how they mirror, count and are drawn.

Source: COCO's keypoints (ECCV 2014) and COCO-WholeBody's (ECCV 2020), with their published sigmas.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

# What `of_names` takes for a keypoint of which no sigma is known: COCO's of wrists and ankles are
# 0.06 and 0.09.
_SIGMA = 0.07


@dataclasses.dataclass(frozen=True)
class Skeleton:
    """The K keypoints of a kind of object.

    Attributes:
      names: Of each.
      pairs: Indices of those that change places in a mirrored image; the rest are their own.
      sigmas: Of each, as a fraction of the root of the object's area: how far annotators differ.
      limbs: Indices of those that a drawing joins.
      upper: Indices of the upper half of the body, for the augmentation of half bodies.
      kind: Name of the objects, as a detector calls them.
      parts: Names and bounds (first, beyond the last) of parts that are also evaluated alone, the
        one that every object must have a point of in training first; empty for none.
    """

    names: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...] = ()
    sigmas: tuple[float, ...] = ()
    limbs: tuple[tuple[int, int], ...] = ()
    upper: tuple[int, ...] = ()
    parts: tuple[tuple[str, int, int], ...] = ()
    kind: str = "person"

    def check(self) -> None:
        """Raises a ValueError for numbers of keypoints that there are not, and wrong counts."""
        count = len(self)
        for name in ("pairs", "limbs"):
            for pair in getattr(self, name):
                if len(pair) != 2 or not all(type(i) is int and 0 <= i < count for i in pair):
                    raise ValueError(f"{name} has {pair}; it is two numbers, 0 to {count - 1}")
        if len(self.sigmas) != count or not all(sigma > 0 for sigma in self.sigmas):
            raise ValueError(f"sigmas are {count} numbers above 0")
        if not all(type(i) is int and 0 <= i < count for i in self.upper):
            raise ValueError(f"upper has numbers of keypoints, 0 to {count - 1}")
        if not all(len(part) == 3 and 0 <= part[1] < part[2] <= count for part in self.parts):
            raise ValueError(f"parts are (name, first, beyond the last), within 0 to {count}")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def mirrored(self) -> np.ndarray:
        """int32 `[K]`: which keypoint each one is in a mirrored image."""
        order = np.arange(len(self), dtype=np.int32)
        for first, second in self.pairs:
            order[first], order[second] = second, first
        return order

    def is_required(self) -> np.ndarray:
        """bool `[K]`: the keypoints of the first part, or all."""
        _, first, last = self.parts[0] if self.parts else ("", 0, len(self))
        numbers = np.arange(len(self))
        return (numbers >= first) & (numbers < last)

    def is_upper(self) -> np.ndarray:
        """bool `[K]`: the keypoints of the upper half."""
        return np.isin(np.arange(len(self)), self.upper)

    @classmethod
    def of_names(cls, names: tuple[str, ...], limbs: tuple[tuple[int, int], ...] = ()) -> Self:
        """A skeleton of which only names and limbs are known.

        "left_x" and "right_x" are a pair, and all sigmas are the same.
        """
        index = {name: number for number, name in enumerate(names)}
        pairs = tuple(
            (number, index[other])
            for name, number in index.items()
            if name.startswith("left_")
            and (other := f"right_{name.removeprefix('left_')}") in index
        )
        return cls(names, pairs, (_SIGMA,) * len(names), limbs)

    def to_json(self) -> dict[str, Any]:
        """All fields as plain numbers, strings and lists."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`, also after a way through a file."""
        return cls(**{name: _tuples(value) for name, value in fields.items()})


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


_BODY = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee",
    "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
_BODY_SIGMAS = (
    0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107,
    0.087, 0.087, 0.089, 0.089,
)  # fmt: skip
_BODY_LIMBS = (
    (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8),
    (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
)  # fmt: skip
# In pairs of left and right, after the nose.
_BODY_PAIRS = tuple((i, i + 1) for i in range(1, 17, 2))
_UPPER = tuple(range(11))

_FOOT = tuple(
    f"{side}_{part}" for side in ("left", "right") for part in ("big_toe", "small_toe", "heel")
)
_FOOT_SIGMAS = (0.068, 0.066, 0.066, 0.092, 0.094, 0.094)
_FACE = tuple(f"face_{i}" for i in range(68))
_FACE_SIGMAS = (
    0.042, 0.043, 0.044, 0.043, 0.040, 0.035, 0.031, 0.025, 0.020, 0.023, 0.029, 0.032, 0.037,
    0.038, 0.043, 0.041, 0.045, 0.013, 0.012, 0.011, 0.011, 0.012, 0.012, 0.011, 0.011, 0.013,
    0.015, 0.009, 0.007, 0.007, 0.007, 0.012, 0.009, 0.008, 0.016, 0.010, 0.017, 0.011, 0.009,
    0.011, 0.009, 0.007, 0.013, 0.008, 0.011, 0.012, 0.010, 0.034, 0.008, 0.008, 0.009, 0.008,
    0.008, 0.007, 0.010, 0.008, 0.009, 0.009, 0.009, 0.007, 0.007, 0.008, 0.011, 0.008, 0.008,
    0.008, 0.010, 0.008,
)  # fmt: skip
_FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky")
_HANDS = tuple(
    f"{side}_{part}"
    for side in ("left", "right")
    for part in ("palm", *(f"{finger}_{joint}" for finger in _FINGERS for joint in range(1, 5)))
)
_HAND_SIGMAS = (
    0.029, 0.022, 0.035, 0.037, 0.047, 0.026, 0.025, 0.024, 0.035, 0.018, 0.024, 0.022, 0.026,
    0.017, 0.021, 0.021, 0.032, 0.020, 0.019, 0.022, 0.031,
)  # fmt: skip
_FOOT_START, _FACE_START, _HANDS_START, _HAND_SIZE = 17, 23, 91, 21
# Left and right of the outline of a face mirror at its chin, other parts as listed.
_FACE_PAIRS = (
    *((23 + i, 39 - i) for i in range(8)),
    (40, 49), (41, 48), (42, 47), (43, 46), (44, 45), (54, 58), (55, 57), (59, 68), (60, 67),
    (61, 66), (62, 65), (63, 70), (64, 69), (71, 77), (72, 76), (73, 75), (78, 82), (79, 81),
    (83, 87), (84, 86), (88, 90),
)  # fmt: skip


def _hand_limbs(start: int) -> tuple[tuple[int, int], ...]:
    """From the palm along each finger."""
    firsts = range(start + 1, start + _HAND_SIZE, 4)
    return tuple(
        limb
        for first in firsts
        for limb in ((start, first), *((joint, joint + 1) for joint in range(first, first + 3)))
    )


COCO = Skeleton(_BODY, _BODY_PAIRS, _BODY_SIGMAS, _BODY_LIMBS, _UPPER, (("body", 0, len(_BODY)),))
WHOLE_BODY = Skeleton(
    (*_BODY, *_FOOT, *_FACE, *_HANDS),
    (
        *_BODY_PAIRS,
        *((_FOOT_START + i, _FOOT_START + 3 + i) for i in range(3)),
        *_FACE_PAIRS,
        *((_HANDS_START + i, _HANDS_START + _HAND_SIZE + i) for i in range(_HAND_SIZE)),
    ),
    (*_BODY_SIGMAS, *_FOOT_SIGMAS, *_FACE_SIGMAS, *_HAND_SIGMAS, *_HAND_SIGMAS),
    (
        *_BODY_LIMBS,
        # From the ankles to toes and heel.
        *((15, _FOOT_START + i) for i in range(3)),
        *((16, _FOOT_START + 3 + i) for i in range(3)),
        *_hand_limbs(_HANDS_START),
        *_hand_limbs(_HANDS_START + _HAND_SIZE),
    ),
    _UPPER,
    (
        ("body", 0, _FOOT_START),
        ("foot", _FOOT_START, _FACE_START),
        ("face", _FACE_START, _HANDS_START),
        ("left_hand", _HANDS_START, _HANDS_START + _HAND_SIZE),
        ("right_hand", _HANDS_START + _HAND_SIZE, _HANDS_START + 2 * _HAND_SIZE),
    ),
)
FIGURE = Skeleton(
    (
        "head", "neck", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow",
        "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee",
        "left_ankle", "right_ankle",
    ),
    tuple((i, i + 1) for i in range(2, 14, 2)),
    # COCO's of the same joints; of its face for the head, of its shoulders for the neck.
    (
        0.035, 0.079, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089,
        0.089,
    ),
    (
        (0, 1), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7), (2, 8), (3, 9), (8, 9), (8, 10),
        (9, 11), (10, 12), (11, 13),
    ),
    tuple(range(8)),
    kind="figure",
)  # fmt: skip
