"""Attention to clustered tokens: its equation, and that blocks change nothing."""

import jax
import numpy as np
import pytest

from cluenet_jax.ops import attention
from tests.helpers.golden import relative_error
from tests.ops.inputs import normal


@pytest.fixture
def inputs():
    return normal(0, 2, 3, 50, 4), normal(1, 2, 3, 7, 4), normal(2, 2, 3, 7, 4)


def test_it_is_its_equation(inputs):
    query, key, value = (x.astype(np.float64) for x in inputs)
    weights = np.exp(query @ key.swapaxes(-1, -2) / 2)
    expected = weights / weights.sum(-1, keepdims=True) @ value
    assert relative_error(jax.jit(attention.attend)(*inputs), expected) < 1e-5


def test_blocks_change_neither_values_nor_gradients(inputs, monkeypatch):
    """The last of the blocks is not full."""

    def value_and_gradients(*inputs):
        return jax.value_and_grad(lambda *x: (attention.attend(*x) ** 2).sum(), (0, 1, 2))(*inputs)

    whole, whole_gradients = jax.jit(value_and_gradients)(*inputs)
    monkeypatch.setattr(attention, "_MAX_WEIGHTS", 50 * 7 - 1)
    monkeypatch.setattr(attention, "_BLOCK", 16)
    program = jax.jit(lambda *x: value_and_gradients(*x)).lower(*inputs)
    assert "while" in program.as_text()
    blocks, block_gradients = program.compile()(*inputs)
    assert relative_error(blocks, whole) < 1e-6
    for ours, theirs in zip(block_gradients, whole_gradients, strict=True):
        assert relative_error(ours, theirs) < 1e-5
