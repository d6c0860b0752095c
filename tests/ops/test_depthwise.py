"""The depthwise convolution against its slow twin, forward and backward, on all backends."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cluenet_jax import ops
from cluenet_jax.ops import depthwise
from tests.helpers import reference
from tests.ops.inputs import normal

SIZES = [(8, 8), (7, 5), (1, 4), (2, 1)]


@pytest.mark.parametrize("size", SIZES)
def test_the_plain_form_equals_the_slow_twin(size):
    x, kernel = normal(0, 3, *size, 5), normal(1, 3, 3, 5)
    expected = reference.depthwise_conv3x3(x, kernel)
    np.testing.assert_allclose(depthwise.depthwise_conv3x3(x, kernel), expected, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_the_selected_form_agrees_forward_and_backward(size, backend):
    x, kernel, grad = normal(0, 3, *size, 5), normal(1, 3, 3, 5), normal(2, 3, *size, 5)
    out, pull = jax.vjp(ops.depthwise_conv3x3, x, kernel)
    np.testing.assert_allclose(out, reference.depthwise_conv3x3(x, kernel), atol=1e-5)
    # Autodiff of XLA's convolution is the truth for the gradients.
    x_grad, kernel_grad = jax.vjp(depthwise.depthwise_conv3x3, x, kernel)[1](grad)
    np.testing.assert_allclose(pull(grad)[0], x_grad, atol=1e-5)
    np.testing.assert_allclose(pull(grad)[1], kernel_grad, atol=1e-4)


def test_half_precision_stays(backend):
    x, kernel = jnp.ones((1, 4, 4, 2), jnp.bfloat16), jnp.ones((3, 3, 2), jnp.bfloat16)
    out, pull = jax.vjp(ops.depthwise_conv3x3, x, kernel)
    chex.assert_type([out, *pull(out)], jnp.bfloat16)
