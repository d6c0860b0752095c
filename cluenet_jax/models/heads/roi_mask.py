"""The head that draws the object in a box (arXiv 1703.06870)."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import linen as nn

from cluenet_jax.models import torch_names as names
from cluenet_jax.models.heads.roi_box import of_class
from cluenet_jax.models.layers import conv_init

# Rows and columns of a box's features; a mask has twice as many.
BINS = 14
_NUM_CONVS = 4
_THRESHOLD = 0.5


class MaskHead(nn.Module):
    """Four convolutions, a doubling, a linear map.

    Attributes:
      num_classes: K.
      width: Channels of the convolutions.
      dtype: Type of the convolutions; the outputs are float32.
    """

    num_classes: int
    width: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, features: jax.Array, labels: jax.Array) -> jax.Array:
        """Runs the head.

        Args:
          features: `[B, R, BINS, BINS, C]`.
          labels: `[B, R]` int32 in 0 .. K-1.

        Returns:
          `[B, R, 2 BINS, 2 BINS]` float32, logits of the label's mask.
        """
        x = features
        for i in range(1, _NUM_CONVS + 1):
            conv = nn.Conv(
                self.width,
                (3, 3),
                padding=1,
                kernel_init=conv_init,
                dtype=self.dtype,
                name=f"conv{i}",
            )
            x = nn.relu(conv(x))
        x = nn.relu(Doubling(self.width, self.dtype, name="doubling")(x))
        classifier = nn.Dense(self.num_classes, kernel_init=conv_init, name="classifier")
        logits = classifier(x.astype(jnp.float32))
        own = of_class(labels, self.num_classes)[:, :, None, None]
        return jnp.where(own, logits, 0).sum(-1)


class Doubling(nn.Module):
    """A transposed convolution with a kernel of 2x2 pixels and a stride of 2.

    Every pixel becomes 2x2 pixels: y[2i + a, 2j + b] = W[a, b]^T x[i, j] + bias.
    """

    width: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[..., H, W, C]` to `[..., 2 H, 2 W, width]`."""
        *leading, height, width, channels = x.shape
        kernel = self.param("kernel", conv_init, (2, 2, channels, self.width))
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        y = jnp.einsum("...ijc,abcd->...iajbd", x, kernel) + bias.astype(self.dtype)
        return y.reshape(*leading, 2 * height, 2 * width, self.width)


def mask_loss(logits: jax.Array, targets: jax.Array, positive: jax.Array) -> jax.Array:
    """The mean cross-entropy of the pixels of positive boxes' masks; 0 without any.

    Args:
      logits: `[B, R, h, w]` float32.
      targets: `[B, R, h, w]` float32 in 0 .. 1, how much of a pixel is covered.
      positive: `[B, R]` bool.

    Returns:
      A float32 scalar.
    """
    entropy = jax.nn.softplus(logits) - jnp.where(targets >= _THRESHOLD, logits, 0)
    means = entropy.mean((-2, -1))
    return jnp.where(positive, means, 0).sum() / jnp.maximum(positive.sum(), 1)


def torch_names() -> Iterator[names.Entry]:
    """The names of the head in mmdetection's checkpoints."""
    for i in range(_NUM_CONVS):
        yield from names.layer(f"convs.{i}.conv", f"conv{i + 1}", names.CONV)
    yield from names.layer("upsample", "doubling", names.TRANSPOSED_CONV)
    yield from names.layer("conv_logits", "classifier", names.CONV1X1)
