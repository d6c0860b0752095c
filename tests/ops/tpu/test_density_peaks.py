"""Density peaks by reductions against the whole matrix of distances; the smallest of rows."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cluenet_jax.ops import density_peaks
from cluenet_jax.ops.tpu import density_peaks as tpu_density_peaks
from tests.ops.inputs import normal


def cluster(points: np.ndarray, num_clusters: tuple[int, ...], num_neighbors: int, entries: int):
    form = functools.partial(
        tpu_density_peaks.density_peak_clusters,
        num_clusters=num_clusters,
        num_neighbors=num_neighbors,
        block_entries=entries,
    )
    return jax.jit(form)(points, np.zeros(points.shape[:2], np.float32))


@pytest.mark.parametrize("rows", [1, 7, 50])
@pytest.mark.parametrize("ties", [False, True])
def test_blocks_of_rows_equal_the_plain_form(rows, ties):
    x = normal(0, 2, 50, 6)
    x = np.round(x) if ties else x
    expected = jax.jit(density_peaks.density_peak_clustering, static_argnums=(1, 2))(x, (4, 16), 5)
    chex.assert_trees_all_equal(cluster(x, (4, 16), 5, rows * 50), expected)


@pytest.mark.parametrize("count", [1, 2, 5, 8])
@pytest.mark.parametrize("ties", [False, True])
def test_smallest_counts_equal_entries(count, ties):
    values = normal(0, 20, 33)
    values = np.round(values) if ties else values
    least = jax.jit(tpu_density_peaks.smallest, static_argnums=1)(values, count)
    np.testing.assert_array_equal(least, np.sort(values)[:, :count])


@pytest.mark.parametrize("count", [1, 2, 17, 60])
def test_ranks_are_those_of_a_stable_sort(count):
    rng = np.random.default_rng(count)
    ties = rng.integers(0, 4, 60) / 7
    for strength in (rng.random(60), ties, np.where(ties > 0.4, np.inf, ties), np.zeros(60)):
        strength = strength.astype(np.float32)
        expected = np.empty(60, np.int32)
        expected[np.argsort(-strength, kind="stable")] = np.arange(60)
        ranks = jax.jit(tpu_density_peaks.ranks, static_argnums=1)(strength, count)
        np.testing.assert_array_equal(ranks, np.minimum(expected, count))


def test_no_loop_is_left_where_an_image_fits_a_block():
    def form(points):
        noise = jnp.zeros(points.shape[:2])
        return tpu_density_peaks.density_peak_clusters(
            points, noise, (4, 16), 5, block_entries=2**12
        )

    program = jax.jit(form).trace(normal(0, 2, 64, 6)).lower(lowering_platforms=("tpu",)).as_text()
    for operation in ("while", "sort", "scatter", "gather", "dynamic_slice"):
        assert f"stablehlo.{operation}" not in program, operation
