"""Clustering of a map in parts, each on its own; ours, for maps of very many tokens.

The time of `density_peak_clustering` grows with the square of the tokens; P parts take a P-th of
it. No cluster reaches beyond its part. The published ClusTR clusters whole maps; parts are an idea
of the same school (the local clustering of TCFormer's journal version, which pads maps instead of
cutting parts of two sizes).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from cluenet_jax.ops.folds import cut_folds, join_folds
from cluenet_jax.ops.platform import density_peak_clustering


def clusters_in_parts(grid: tuple[int, int], num_clusters: int, parts: int) -> int:
    """How many clusters all parts have together: about as many, but the same number in each part.

    In one part, and where every token is a cluster, it is `num_clusters`.
    """
    if num_clusters == grid[0] * grid[1]:
        return num_clusters
    rows, columns = _part_counts(grid, parts)
    smallest = (grid[0] // rows) * (grid[1] // columns)
    own = round(num_clusters / (rows * columns))
    return min(max(own, 1), smallest) * rows * columns


def cluster_in_parts(
    points: jax.Array,
    grid: tuple[int, int],
    num_clusters: Sequence[int],
    num_neighbors: int,
    parts: int,
) -> list[jax.Array]:
    """`density_peak_clustering` of each part of a map.

    No gradient passes.

    Args:
      points: `[B, H * W, C]`.
      grid: H and W.
      num_clusters: Of each scale, as `clusters_in_parts` gives them.
      num_neighbors: As for `density_peak_clustering`, or all tokens of a part.
      parts: Along each axis, or as many as it has tokens; their sides differ by one where they do
        not divide the grid's. In one part it is `density_peak_clustering`.

    Returns:
      For each scale `[B, H * W]` int32 in 0 .. M-1: the clusters of the first part come first,
      those of the part on its right follow.

    Raises:
      ValueError: Numbers of clusters that the parts cannot share.
    """
    rows, columns = _part_counts(grid, parts)
    for count in num_clusters:
        if count % (rows * columns):
            raise ValueError(f"{count} clusters are not equally many in {rows}x{columns} parts.")
    owns = [count // (rows * columns) for count in num_clusters]
    x = points.reshape(points.shape[0], *grid, points.shape[-1])
    scales: list[list[jax.Array]] = [[] for _ in owns]
    for row, top, height, high in _runs(grid[0], rows):
        bands: list[list[jax.Array]] = [[] for _ in owns]
        for column, left, width, wide in _runs(grid[1], columns):
            area = x[:, top : top + height * high, left : left + width * wide]
            neighbors = min(num_neighbors, height * width)
            points_of_parts = cut_folds(area, (high, wide)).reshape(-1, height * width, x.shape[-1])
            indices = density_peak_clustering(points_of_parts, owns, neighbors)
            numbers = (row + jnp.arange(high))[:, None] * columns + column + jnp.arange(wide)
            numbers = numbers.astype(jnp.int32).reshape(-1, 1)
            for band, index, own in zip(bands, indices, owns, strict=True):
                index = index.reshape(-1, high * wide, height * width) + own * numbers
                joined = join_folds(index[..., None], (high, wide), area.shape[1:3])
                band.append(joined[..., 0])
        for scale, band in zip(scales, bands, strict=True):
            scale.append(jnp.concatenate(band, axis=2))
    return [jnp.concatenate(scale, axis=1).reshape(points.shape[:2]) for scale in scales]


def _part_counts(grid: tuple[int, int], parts: int) -> tuple[int, int]:
    """How many parts the rows and columns of a grid are cut into: `parts`, or all if fewer."""
    return min(parts, grid[0]), min(parts, grid[1])


def _runs(side: int, parts: int) -> list[tuple[int, int, int, int]]:
    """Parts of the same length in a row: number and start of the first, length, how many."""
    length, longer = divmod(side, parts)
    runs = [
        (0, 0, length + 1, longer),
        (longer, longer * (length + 1), length, parts - longer),
    ]
    return [run for run in runs if run[3]]
