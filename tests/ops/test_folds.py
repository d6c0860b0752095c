"""Folds of a map: cut and joined, and how many there are."""

import numpy as np
import pytest

from cluenet_jax import ops
from tests.ops.inputs import normal


@pytest.mark.parametrize(
    ("grid", "folds", "multiple", "expected"),
    [
        ((56, 56), (8, 8), 1, (8, 8)),
        ((16, 12), (4, 3), 1, (4, 3)),
        ((8, 6), (4, 1), 1, (1, 1)),  # both must be above 1
        ((10, 7), (8, 4), 1, (5, 1)),  # the largest number that divides
        ((10, 12), (8, 8), 2, (5, 6)),
        ((3, 4), (2, 2), 2, (1, 2)),
        ((1, 1), (8, 8), 1, (1, 1)),
    ],
)
def test_folds_divide_the_map(grid, folds, multiple, expected):
    assert ops.fold_counts(grid, folds, multiple) == expected


def test_a_fold_is_a_rectangle_of_the_map():
    x = normal(0, 2, 6, 8, 3)
    folds = ops.cut_folds(x, (3, 2))
    for row in range(3):
        for column in range(2):
            area = x[:, 2 * row : 2 * row + 2, 4 * column : 4 * column + 4]
            np.testing.assert_array_equal(folds[:, 2 * row + column], area.reshape(2, 8, 3))
    np.testing.assert_array_equal(ops.join_folds(folds, (3, 2), (6, 8)), x)
