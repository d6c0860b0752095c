"""Density peaks in blocks against the whole matrix of distances; the search for the smallest."""

import functools

import chex
import jax
import numpy as np
import pytest

from cluenet_jax.ops import density_peaks
from cluenet_jax.ops.cpu import density_peaks as cpu_density_peaks
from tests.ops.inputs import normal

# All images, all rows and all peaks at once; rows are not divided into groups.
WHOLE = dict(block_entries=2**21, block_images=0, group_size=1, peak_block=2**10)


def cluster(points: np.ndarray, num_clusters: tuple[int, ...], num_neighbors: int, **blocks):
    form = functools.partial(
        cpu_density_peaks.density_peak_clusters,
        num_clusters=num_clusters,
        num_neighbors=num_neighbors,
        **{**WHOLE, **blocks},
    )
    return jax.jit(form)(points, np.zeros(points.shape[:2], np.float32))


def plain(points: np.ndarray, num_clusters: tuple[int, ...], num_neighbors: int):
    form = jax.jit(density_peaks.density_peak_clustering, static_argnums=(1, 2))
    return form(points, num_clusters, num_neighbors)


@pytest.mark.parametrize("block_images", [0, 8])
@pytest.mark.parametrize("rows", [1, 7, 50])
def test_blocks_of_rows_and_images_change_nothing(rows, block_images):
    x = normal(0, 2, 50, 6)
    expected = plain(x, (4, 16), 5)
    blocks = dict(block_entries=rows * 50, block_images=block_images)
    chex.assert_trees_all_equal(cluster(x, (4, 16), 5, **blocks), expected)


@pytest.mark.parametrize("peak_block", [1, 7, 64])
def test_blocks_of_peaks_change_nothing(peak_block):
    """Few neighbors leave many tokens without a denser one nearby; some blocks are not full."""
    x = normal(0, 2, 120, 6)
    expected = plain(x, (3, 40), 3)
    chex.assert_trees_all_equal(cluster(x, (3, 40), 3, peak_block=peak_block), expected)


@pytest.mark.parametrize("group_size", [8, 16, 64])
def test_groups_change_nothing(group_size):
    x = np.round(2 * normal(0, 2, 448, 6))
    expected = plain(x, (3, 40), 5)
    chex.assert_trees_all_equal(cluster(x, (3, 40), 5, group_size=group_size), expected)


def test_smallest_counts_equal_entries():
    values = np.array([[3.0, 1.0, 1.0, 2.0, 5.0], [0.0, 0.0, 0.0, 0.0, 9.0]], np.float32)
    least, index = cpu_density_peaks.smallest(values, 3, group_size=64)
    np.testing.assert_array_equal(least, [[1, 1, 2], [0, 0, 0]])
    np.testing.assert_array_equal(index, [[1, 2, 3], [0, 1, 2]])


@pytest.mark.parametrize("width", [11, 200, 448, 449, 3136])
@pytest.mark.parametrize("ties", [False, True])
def test_smallest_of_groups_are_the_smallest_of_all(width, ties):
    """Rows that divide into groups, and that do not."""
    values = normal(0, 2, 50, width)
    values = np.round(4 * values) if ties else values
    least, index = cpu_density_peaks.smallest(values, 5, group_size=64)
    np.testing.assert_array_equal(least, np.sort(values)[..., :5])
    np.testing.assert_array_equal(np.take_along_axis(values, np.asarray(index), -1), least)
    assert all(len(set(row)) == 5 for row in np.asarray(index).reshape(-1, 5))
