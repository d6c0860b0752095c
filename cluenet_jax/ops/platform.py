"""Selection of the form of each operation for the backend at hand, and of block sizes.

`jax.lax.platform_dependent` selects when a program is lowered, so one traced program suits every
backend. Where it is known before, `traced_for` has one form traced alone, in half of the time. This
is the only module that selects; the functions here have the contracts of their plain forms.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from cluenet_jax.ops import assign, confusion, density_peaks, depthwise, merge, pooling
from cluenet_jax.ops.aggregate import aggregate as plain_aggregate
from cluenet_jax.ops.cpu import argmax as cpu_argmax
from cluenet_jax.ops.cpu import density_peaks as cpu_density_peaks
from cluenet_jax.ops.cpu import depthwise as cpu_depthwise
from cluenet_jax.ops.cpu import pooling as cpu_pooling
from cluenet_jax.ops.cpu import segment as cpu_segment
from cluenet_jax.ops.gelu import gelu as plain_gelu
from cluenet_jax.ops.tpu import assign as tpu_assign
from cluenet_jax.ops.tpu import confusion as tpu_confusion
from cluenet_jax.ops.tpu import density_peaks as tpu_density_peaks
from cluenet_jax.ops.tpu import pooling as tpu_pooling
from cluenet_jax.ops.tpu import segment as tpu_segment
from cluenet_jax.ops.tpu.aggregate import aggregate as tpu_aggregate

# Part of the key of JAX's caches. None: a program may be lowered for any platform.
PLATFORM = jax.make_user_context(default_value=None)
# Pairs of points of an image that accelerators take at a time: 64 MB, where they are stored at all.
_IMAGE_ENTRIES = 2**24


def traced_for(function: Callable, platform: str | None) -> Callable:
    """The function, its operations in the forms for one platform.

    Args:
      function: To call, or to trace.
      platform: Of the devices, as `jax.Device.platform` has it; None for any, which is the default.
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with PLATFORM(platform):
            return function(*args, **kwargs)

    return call


def _select(*inputs: jax.Array, cpu: Callable, default: Callable) -> Any:
    """The form for CPUs or that for accelerators."""
    if PLATFORM.value is None:
        return jax.lax.platform_dependent(*inputs, cpu=cpu, default=default)
    return (cpu if PLATFORM.value == "cpu" else default)(*inputs)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def segment_sum(values: jax.Array, index: jax.Array, num_segments: int) -> jax.Array:
    """`ops.segment.segment_sum`, with gradients in reverse mode only."""
    return _select(
        values,
        index,
        cpu=functools.partial(cpu_segment.segment_sum, num_segments=num_segments),
        default=functools.partial(
            tpu_segment.segment_sum, num_segments=num_segments, max_entries=_IMAGE_ENTRIES
        ),
    )


def _segment_forward(values: jax.Array, index: jax.Array, num_segments: int):
    # An array without entries remembers the type of the values.
    return segment_sum(values, index, num_segments), (index, jnp.empty(0, values.dtype))


def _segment_backward(_: int, saved: tuple[jax.Array, jax.Array], grad: jax.Array):
    index, empty = saved
    values_grad = _select(
        grad,
        index,
        cpu=functools.partial(cpu_segment.gradient, dtype=empty.dtype),
        default=functools.partial(
            tpu_segment.gradient, dtype=empty.dtype, max_entries=_IMAGE_ENTRIES
        ),
    )
    return values_grad, None


segment_sum.defvjp(_segment_forward, _segment_backward)


def cluster_mean(
    values: jax.Array,
    centers: jax.Array,
    index: jax.Array,
    weights: jax.Array | None = None,
    counted: bool = True,
) -> jax.Array:
    """`ops.pooling.cluster_mean`."""
    return pooling.cluster_mean(values, centers, index, weights, counted, segment_sum)


def merge_tokens(
    tokens: jax.Array, weights: jax.Array, index: jax.Array, num_clusters: int
) -> jax.Array:
    """`ops.merge.merge_tokens`."""
    return merge.merge_tokens(tokens, weights, index, num_clusters, segment_sum)


def adaptive_avg_pool(x: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """`ops.pooling.adaptive_avg_pool`."""
    return _select(
        x,
        cpu=functools.partial(pooling.adaptive_avg_pool, grid=grid),
        default=functools.partial(tpu_pooling.adaptive_avg_pool, grid=grid, max_entries=2**18),
    )


def gelu(x: jax.Array) -> jax.Array:
    """`ops.gelu.gelu`, keeping only its input for the gradient.

    `jax.nn.gelu` would store several arrays as large as `x`, which in the wide layer of an MLP
    are most of a training step's memory.
    """
    return _select(
        x,
        cpu=jax.checkpoint(plain_gelu),
        # Without the barrier of the other XLA fuses it with what is around it.
        default=jax.checkpoint(plain_gelu, prevent_cse=False),
    )


def aggregate(
    centers: jax.Array, points: jax.Array, values: jax.Array, temperature: jax.Array | float
) -> jax.Array:
    """`ops.aggregate.aggregate`, with gradients in reverse mode only."""
    return _select(
        centers,
        points,
        values,
        jnp.asarray(temperature, jnp.float32),
        cpu=plain_aggregate,
        default=tpu_aggregate,
    )


def best_fit(
    queries: jax.Array, points: jax.Array, scale: jax.Array | float, shift: jax.Array | float
) -> tuple[jax.Array, jax.Array]:
    """`ops.assign.best_fit`, with gradients in reverse mode only."""

    def on_cpu(*inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        return hard_assign(assign.fit_scores(*inputs))

    return _select(
        queries,
        points,
        jnp.asarray(scale, jnp.float32),
        jnp.asarray(shift, jnp.float32),
        cpu=on_cpu,
        default=tpu_assign.best_fit,
    )


@jax.custom_vjp
def hard_assign(scores: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`ops.assign.hard_assign`, with gradients in reverse mode only."""
    return _select(scores, cpu=cpu_argmax.hard_assign, default=tpu_assign.hard_assign)


def _assign_forward(scores: jax.Array):
    index, weight = hard_assign(scores)
    # An array without entries remembers the number of centers.
    return (index, weight), (index, jnp.empty((scores.shape[-2], 0)))


def _assign_backward(saved: tuple[jax.Array, jax.Array], grads: tuple[jax.Array, jax.Array]):
    index, empty = saved
    return (tpu_assign.assign_gradient(grads[1], index, len(empty)),)


hard_assign.defvjp(_assign_forward, _assign_backward)


@jax.custom_vjp
def dispatch(index: jax.Array, weight: jax.Array, centers: jax.Array) -> jax.Array:
    """`ops.assign.dispatch`, with gradients in reverse mode only."""
    return _select(index, weight, centers, cpu=assign.dispatch, default=tpu_assign.dispatch)


def _dispatch_forward(*inputs: jax.Array):
    return dispatch(*inputs), inputs


def _dispatch_backward(saved: tuple[jax.Array, ...], grad: jax.Array):
    return None, *_select(
        *saved, grad, cpu=assign.dispatch_gradients, default=tpu_assign.dispatch_gradients
    )


dispatch.defvjp(_dispatch_forward, _dispatch_backward)


def confusion_matrix(
    prediction: jax.Array, label: jax.Array, num_classes: int, ignore: int = 255
) -> jax.Array:
    """`ops.confusion.confusion_matrix`."""
    settings = dict(num_classes=num_classes, ignore=ignore)
    return _select(
        prediction,
        label,
        cpu=functools.partial(confusion.confusion_matrix, **settings),
        # 4 MB an image, where the matrix is stored at all.
        default=functools.partial(tpu_confusion.confusion_matrix, **settings, block_entries=2**21),
    )


def nearest_center(centers: jax.Array, points: jax.Array) -> jax.Array:
    """`ops.pooling.nearest_center`."""
    centers, points = jax.lax.stop_gradient((centers, points))
    return _select(
        centers,
        points,
        # What stays in a CPU's caches: 8 MB.
        cpu=functools.partial(cpu_pooling.nearest_center, block_entries=2**21, tile_points=4096),
        default=functools.partial(tpu_pooling.nearest_center, block_entries=_IMAGE_ENTRIES),
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
    sizes = dict(num_clusters=tuple(num_clusters), num_neighbors=num_neighbors)
    return _select(
        jax.lax.stop_gradient(points).astype(jnp.float32),
        density_peaks.density_noise(noise_key, batch, tokens),
        # Several passes go over a block, so it should stay in a CPU's caches: 8 MB.
        cpu=functools.partial(
            cpu_density_peaks.density_peak_clusters,
            **sizes,
            block_entries=2**21,
            block_images=8,
            group_size=64,
            peak_block=32,
        ),
        # All images at once: a loop over them would not be divided among devices.
        default=functools.partial(
            tpu_density_peaks.density_peak_clusters, **sizes, block_entries=_IMAGE_ENTRIES
        ),
    )


@jax.custom_vjp
def depthwise_conv3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`ops.depthwise.depthwise_conv3x3`, with gradients in reverse mode only."""
    return _select(
        x, kernel, cpu=cpu_depthwise.depthwise_conv3x3, default=depthwise.depthwise_conv3x3
    )


def _depthwise_forward(x: jax.Array, kernel: jax.Array):
    return depthwise_conv3x3(x, kernel), (x, kernel)


def _depthwise_backward(saved: tuple[jax.Array, jax.Array], grad: jax.Array):
    return _select(*saved, grad, cpu=cpu_depthwise.gradients, default=depthwise.gradients)


depthwise_conv3x3.defvjp(_depthwise_forward, _depthwise_backward)
