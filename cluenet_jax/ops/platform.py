"""Selection of the form of each operation for the backend at hand, and of block sizes.

`jax.lax.platform_dependent` selects when a program is lowered, so one traced program suits every
backend. This is the only module that does; the functions here have the contracts of their plain
forms.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from cluenet_jax.ops import assign, density_peaks, depthwise
from cluenet_jax.ops.cpu import argmax as cpu_argmax
from cluenet_jax.ops.cpu import density_peaks as cpu_density_peaks
from cluenet_jax.ops.cpu import depthwise as cpu_depthwise
from cluenet_jax.ops.cpu import pooling as cpu_pooling


def hard_assign(scores: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`ops.assign.hard_assign`."""
    index = jax.lax.platform_dependent(
        jax.lax.stop_gradient(scores), cpu=cpu_argmax.argmax_rows, default=assign.argmax_rows
    )
    return index, assign.score_at(scores, index)


def nearest_center(centers: jax.Array, points: jax.Array) -> jax.Array:
    """`ops.pooling.nearest_center`."""
    nearest = functools.partial(cpu_pooling.nearest_center, tile_points=4096)
    centers, points = jax.lax.stop_gradient((centers, points))
    return jax.lax.platform_dependent(
        centers,
        points,
        # What stays in a CPU's caches: 8 MB.
        cpu=functools.partial(nearest, block_entries=2**21),
        # So far accelerators run the blocked form too, with blocks of 1 GB, so that memory stays
        # bounded; forms for TPUs are to replace it.
        default=functools.partial(nearest, block_entries=2**28, argmax=assign.argmax_rows),
    )


def density_peak_clustering(
    points: jax.Array,
    num_clusters: Sequence[int],
    num_neighbors: int = 5,
    noise_key: jax.Array | None = None,
) -> list[jax.Array]:
    """`ops.density_peaks.density_peak_clustering`."""
    batch, tokens, _ = points.shape
    density_peaks.check_sizes(tokens, num_clusters, num_neighbors)
    cluster = functools.partial(
        cpu_density_peaks.density_peak_clusters,
        num_clusters=tuple(num_clusters),
        num_neighbors=num_neighbors,
        group_size=64,
        peak_block=32,
    )
    return jax.lax.platform_dependent(
        jax.lax.stop_gradient(points).astype(jnp.float32),
        density_peaks.density_noise(noise_key, batch, tokens),
        # Several passes go over a block, so it should stay in a CPU's caches: 8 MB.
        cpu=functools.partial(cluster, block_entries=2**21, block_images=8),
        # So far accelerators run the blocked form too, with blocks of 64 MB an image; forms for
        # TPUs are to replace it. All images at once: a loop over them would not be divided
        # among devices.
        default=functools.partial(
            cluster,
            block_entries=2**24,
            block_images=0,
            top_indices=_top_indices_by_sorting,
            argmax=assign.argmax_rows,
        ),
    )


def _top_indices_by_sorting(values: jax.Array, count: int) -> jax.Array:
    """As `top_indices`; XLA does not divide the batch of a `top_k` among devices."""
    return jnp.argsort(-values, axis=-1, stable=True)[..., :count]


@jax.custom_vjp
def depthwise_conv3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`ops.depthwise.depthwise_conv3x3`, with gradients in reverse mode only."""
    return jax.lax.platform_dependent(
        x, kernel, cpu=cpu_depthwise.depthwise_conv3x3, default=depthwise.depthwise_conv3x3
    )


def _depthwise_forward(x: jax.Array, kernel: jax.Array):
    return depthwise_conv3x3(x, kernel), (x, kernel)


def _depthwise_backward(saved: tuple[jax.Array, jax.Array], grad: jax.Array):
    return jax.lax.platform_dependent(
        *saved, grad, cpu=cpu_depthwise.gradients, default=depthwise.gradients
    )


depthwise_conv3x3.defvjp(_depthwise_forward, _depthwise_backward)
