"""Clustering in parts: each part as if it were an image of its own."""

import jax
import numpy as np
import pytest

from cluenet_jax import ops
from tests.ops.inputs import normal


def cluster(points, grid, counts, parts):
    run = jax.jit(lambda points: ops.cluster_in_parts(points, grid, counts, 3, parts))
    return [np.asarray(index).reshape(-1, *grid) for index in run(points)]


cluster_whole = jax.jit(ops.density_peak_clustering, static_argnums=(1, 2))


def test_one_part_is_the_whole_map():
    points = normal(0, 2, 48, 5)
    whole = cluster_whole(points, (4, 9), 3)
    for index, expected in zip(cluster(points, (6, 8), (4, 9), 1), whole, strict=True):
        np.testing.assert_array_equal(index.reshape(2, 48), expected)


@pytest.mark.parametrize("grid", [(8, 12), (7, 11), (9, 4)])
@pytest.mark.parametrize("parts", [2, 3, 4])
def test_parts_are_clustered_like_images(grid, parts):
    """Also where sides differ: the longer parts come first."""
    points = normal(1, 2, grid[0] * grid[1], 5)
    counts = [ops.clusters_in_parts(grid, count, parts) for count in (9, 20)]
    indices = cluster(points, grid, counts, parts)
    maps = points.reshape(2, *grid, 5)
    rows, columns = (np.array_split(np.arange(side), parts) for side in grid)
    for index, count in zip(indices, counts, strict=True):
        own = count // parts**2
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                part = maps[:, row][:, :, column].reshape(2, -1, 5)
                (expected,) = cluster_whole(part, (own,), min(3, part.shape[1]))
                ours = index[:, row][:, :, column].reshape(2, -1)
                np.testing.assert_array_equal(ours - (i * parts + j) * own, expected)


@pytest.mark.parametrize(
    ("grid", "count", "parts", "expected"),
    [
        ((200, 336), 1050, 1, 1050),
        ((200, 336), 1050, 8, 1024),
        ((4, 4), 1, 2, 4),  # at least one in each
        ((4, 4), 16, 3, 16),  # every token is a cluster
        ((5, 5), 20, 4, 16),  # the smallest part has one token
        ((2, 3), 2, 8, 6),  # no more parts than tokens
    ],
)
def test_parts_share_the_clusters(grid, count, parts, expected):
    assert ops.clusters_in_parts(grid, count, parts) == expected


def test_numbers_that_cannot_be_shared_are_refused():
    with pytest.raises(ValueError, match="7 clusters are not equally many in 2x2 parts"):
        ops.cluster_in_parts(normal(0, 1, 16, 3), (4, 4), (7,), 3, 2)
