"""Depthwise 3x3 convolution, as XLA's grouped convolution."""

import jax


def depthwise_conv3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves each channel with its own 3x3 kernel, zero padded, stride 1.

    Args:
      x: `[B, H, W, C]`.
      kernel: `[3, 3, C]`, the type of `x`.

    Returns:
      `[B, H, W, C]`, the type of `x`.
    """
    return jax.lax.conv_general_dilated(
        x,
        kernel[:, :, None, :],
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def gradients(x: jax.Array, kernel: jax.Array, grad: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Gradients of `x` and `kernel`, from that of the output `[B, H, W, C]`."""
    return jax.vjp(depthwise_conv3x3, x, kernel)[1](grad)
