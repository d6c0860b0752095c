"""Cluster attention (GFC): pixels are grouped around a few centers and read from their own.

    K = W_k x, V = W_v x                          split into heads
    K0, V0 = adaptive average pools of K and V    M = rows * columns centers per head
    A = softmax over pixels of cos(K0, K) / t     GSFA, t = exp(max(alpha, log t_min))
    C = A V
    g = sigmoid(w2 . GELU(W1 [C ; V0] + b1) + b2) gated fusion, weights per head
    C = (1 - g) C + g V0
    Q = W_q (all heads of C side by side)         HSFD, where no assignment is given
    s = sigmoid(b + a cos(Q, K))
    index, weight = argmax, max of s over the centers
    out = W_o (weight * C[index])                 heads side by side

Source: CLUENet (AAAI 2026, arXiv 2512.06345).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cluenet_jax import ops
from cluenet_jax.models.layers import conv1x1, linear, uniform_init

DISPATCHES = ("hard", "soft")


@dataclasses.dataclass(frozen=True)
class AttentionConfig:
    """The cluster attention of one stage.

    Attributes:
      num_heads, head_dim: Number and width of the heads; the width is even.
      center_grid: Rows and columns of the centers.
      min_temperature: Lower bound of the aggregation's temperature.
      gate: Whether centers are fused with their neighborhood.
      learn_temperature: Whether alpha is a parameter or stays log 2.13.
      dispatch: "hard", each pixel takes from its best center; "soft" (ablation), from all
        centers by their scores.
      dtype: Type of the matrix products.
    """

    num_heads: int
    head_dim: int
    center_grid: tuple[int, int]
    min_temperature: float
    gate: bool
    learn_temperature: bool
    dispatch: str
    dtype: jnp.dtype

    def __post_init__(self):
        if self.dispatch not in DISPATCHES:
            raise ValueError(f"dispatch={self.dispatch!r} is not one of {', '.join(DISPATCHES)}.")
        if self.head_dim < 2 or self.head_dim % 2:
            raise ValueError(f"head_dim={self.head_dim} must be even: the gate halves it.")
        if self.num_heads < 1:
            raise ValueError(f"num_heads={self.num_heads} must be at least 1.")
        if len(self.center_grid) != 2 or min(self.center_grid) < 1:
            raise ValueError(f"center_grid={self.center_grid} must be two numbers of at least 1.")
        if not 0 < self.min_temperature < float("inf"):
            raise ValueError(f"min_temperature={self.min_temperature} must be above 0 and finite.")


class GatedFusion(nn.Module):
    """Mixture of each center and the average of its neighborhood, by a gate per center."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, centers: jax.Array, local: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Fuses `centers` and `local`, both `[B, G, M, D]`.

        Returns:
          The fused centers `[B, G, M, D]` and the gate `[B, G, M]` in 0 .. 1, the fraction
          that each center took from its neighborhood.
        """
        heads, dim = centers.shape[1], centers.shape[3]
        hidden = dim // 2
        # As fan-in counts a head's whole weight, inputs times outputs, as the published code's
        # initializer does on its three-axis tensor.
        w1 = self.param("w1", uniform_init(hidden * 2 * dim), (heads, 2 * dim, hidden))
        b1 = self.param("b1", nn.initializers.zeros, (heads, hidden))
        w2 = self.param("w2", uniform_init(hidden), (heads, hidden))
        b2 = self.param("b2", nn.initializers.zeros, (heads,))
        w1, b1, w2, b2 = (p.astype(self.dtype) for p in (w1, b1, w2, b2))
        both = jnp.concatenate([centers, local], axis=-1)
        features = ops.gelu(jnp.einsum("bgmi,gio->bgmo", both, w1) + b1[:, None])
        gate = jax.nn.sigmoid(jnp.einsum("bgmo,go->bgm", features, w2) + b2[:, None])
        return centers + gate[..., None] * (local - centers), gate


class ClusterAttention(nn.Module):
    """Cluster attention over one image grid, see the module's first lines."""

    config: AttentionConfig

    @nn.compact
    def __call__(self, x: jax.Array, assignment: tuple | None = None) -> tuple:
        """Groups the pixels and gives each one its center's features.

        Args:
          x: `[B, H, W, C]`.
          assignment: What an earlier block of the stage returned, to be used again; None
            computes it here.

        Returns:
          `[B, H, W, C]`; the assignment, `(index, weight)` of `[B, G, N]` each (hard) or
          `(scores,)` of `[B, G, M, N]` (soft); the gate `[B, G, M]`, or None.
        """
        batch, height, width, channels = x.shape
        config = self.config
        inner = config.num_heads * config.head_dim
        # Points in one axis from here on: TPUs would pad two of them.
        points = x.reshape(batch, height * width, channels)
        key = conv1x1(inner, "key", config.dtype)(points)
        value = conv1x1(inner, "value", config.dtype)(points)
        key_centers, value_centers = (
            self._split(self._pool(m, height, width)) for m in (key, value)
        )
        key, value = self._split(key), self._split(value)

        with jax.named_scope("aggregation"):
            centers = ops.aggregate(key_centers, key, value, self._temperature())
        gate = None
        if config.gate:
            centers, gate = GatedFusion(config.dtype, name="gate")(centers, value_centers)

        hard = config.dispatch == "hard"
        if assignment is None:
            with jax.named_scope("assignment"):
                fit = self._query(centers), key, *self._score_parameters()
                assignment = ops.best_fit(*fit) if hard else (ops.fit_scores(*fit),)
        with jax.named_scope("dispatch"):
            out = (ops.dispatch if hard else ops.soft_dispatch)(*assignment, centers)
        out = conv1x1(channels, "out", config.dtype)(_side_by_side(out))
        return out.reshape(x.shape), assignment, gate

    def _pool(self, x: jax.Array, height: int, width: int) -> jax.Array:
        """`[B, N, C]` to `[B, M, C]`, averages of the cells around each center."""
        batch, _, channels = x.shape
        pooled = ops.adaptive_avg_pool(
            x.reshape(batch, height, width, channels), self.config.center_grid
        )
        return pooled.reshape(batch, -1, channels)

    def _split(self, x: jax.Array) -> jax.Array:
        """`[B, N, G*D]` to `[B, G, N, D]`."""
        split = x.reshape(*x.shape[:2], self.config.num_heads, self.config.head_dim)
        return split.transpose(0, 2, 1, 3)

    def _temperature(self) -> jax.Array:
        alpha = np.log(2.13)
        if self.config.learn_temperature:
            alpha = self.param("alpha", nn.initializers.constant(alpha), ())
        return jnp.exp(jnp.maximum(alpha, np.log(self.config.min_temperature)))

    def _query(self, centers: jax.Array) -> jax.Array:
        """`[B, G, M, D]`, of all heads of each center together."""
        inner = self.config.num_heads * self.config.head_dim
        return self._split(linear(inner, "query", self.config.dtype)(_side_by_side(centers)))

    def _score_parameters(self) -> tuple[jax.Array, jax.Array]:
        """a and b."""
        scale = self.param("scale", nn.initializers.ones, ())
        return scale, self.param("shift", nn.initializers.zeros, ())


def _side_by_side(x: jax.Array) -> jax.Array:
    """`[B, G, N, D]` to `[B, N, G*D]`."""
    batch, heads, points, dim = x.shape
    return x.transpose(0, 2, 1, 3).reshape(batch, points, heads * dim)
