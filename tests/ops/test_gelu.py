"""GELU, its gradient in both modes, and what it keeps for it."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cluenet_jax import ops
from tests.helpers import reference
from tests.ops.inputs import normal


def test_gelu_equals_the_slow_twin():
    x = np.linspace(-9, 9, 401, dtype=np.float32)
    np.testing.assert_allclose(ops.gelu(x), reference.gelu(x), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_gelu_and_its_gradient(dtype):
    x = jnp.asarray(np.linspace(-9, 9, 401), dtype)
    tolerance = 1e-6 if dtype == jnp.float32 else 2e-2
    exact = jax.nn.gelu(x.astype(jnp.float32), approximate=False)
    value, pull = jax.vjp(ops.gelu, x)
    chex.assert_type([value, pull(jnp.ones_like(x))[0]], dtype)
    np.testing.assert_allclose(value.astype(jnp.float32), exact, atol=tolerance, rtol=tolerance)
    slope = jax.vmap(jax.grad(lambda x: jax.nn.gelu(x, approximate=False)))(x.astype(jnp.float32))
    gradient = pull(jnp.ones_like(x))[0].astype(jnp.float32)
    np.testing.assert_allclose(gradient, slope, atol=2 * tolerance)


def test_forward_mode_agrees_with_reverse_mode():
    x, tangent = normal(0, 50), normal(1, 50)
    _, forward = jax.jvp(ops.gelu, (x,), (tangent,))
    np.testing.assert_allclose(
        forward, tangent * jax.grad(lambda x: ops.gelu(x).sum())(x), rtol=1e-5
    )


def test_only_the_input_is_kept_for_the_gradient():
    x = normal(0, 50)
    kept = jax.tree.leaves(jax.vjp(ops.gelu, x)[1])
    assert sum(leaf.size for leaf in kept if np.ndim(leaf)) == x.size
