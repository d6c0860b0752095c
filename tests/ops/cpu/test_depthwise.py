"""Nine shifted products, and their gradients, against XLA's convolution."""

import chex
import jax.numpy as jnp
import numpy as np
import pytest

from cluenet_jax.ops import depthwise
from cluenet_jax.ops.cpu import depthwise as cpu_depthwise
from tests.ops.inputs import normal


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (1, 4), (2, 1)])
def test_shifted_products_agree_forward_and_backward(size):
    x, kernel, grad = normal(0, 3, *size, 5), normal(1, 3, 3, 5), normal(2, 3, *size, 5)
    expected = depthwise.depthwise_conv3x3(x, kernel)
    np.testing.assert_allclose(cpu_depthwise.depthwise_conv3x3(x, kernel), expected, atol=1e-5)
    x_grad, kernel_grad = depthwise.gradients(x, kernel, grad)
    ours = cpu_depthwise.gradients(x, kernel, grad)
    np.testing.assert_allclose(ours[0], x_grad, atol=1e-5)
    np.testing.assert_allclose(ours[1], kernel_grad, atol=1e-4)


def test_half_precision_sums_the_kernel_gradient_in_float32():
    x = jnp.ones((1, 40, 40, 1), jnp.bfloat16)
    kernel_grad = cpu_depthwise.gradients(x, jnp.ones((3, 3, 1), jnp.bfloat16), x)[1]
    chex.assert_type(kernel_grad, jnp.bfloat16)
    # A sum of ones in bfloat16 would stop at 256.
    assert kernel_grad[1, 1, 0] == 1600
