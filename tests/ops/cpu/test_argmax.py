"""The argmax of two reductions against the plain one."""

import jax
import numpy as np
import pytest

from cluenet_jax.ops import assign
from cluenet_jax.ops.cpu import argmax
from tests.ops.inputs import normal


@pytest.mark.parametrize("shape", [(3, 5), (2, 1, 4), (2, 3, 49, 31), (256, 7)])
def test_both_forms_equal_numpy(shape):
    scores = np.round(normal(0, *shape))
    expected = scores.argmax(axis=-2)
    best, rows = jax.jit(argmax.max_and_row)(scores)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(best, scores.max(axis=-2))
    np.testing.assert_array_equal(argmax.argmax_rows(scores), expected)
    np.testing.assert_array_equal(assign.argmax_rows(scores), expected)


@pytest.mark.parametrize("value", [-np.inf, np.nan, np.inf])
def test_columns_without_a_greatest_entry_give_a_row(value):
    rows = np.asarray(argmax.argmax_rows(np.full((2, 3, 5), value, np.float32)))
    assert ((rows >= 0) & (rows < 3)).all()
    if not np.isnan(value):
        np.testing.assert_array_equal(rows, 0)
