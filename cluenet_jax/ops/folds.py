"""Folds of a map: equal rectangles in rows and columns, cut out and put back.

Source: Context Cluster (arXiv 2303.01494), which clusters each fold on its own.
"""

import jax


def fold_counts(
    grid: tuple[int, int], folds: tuple[int, int], multiple: int = 1
) -> tuple[int, int]:
    """How many folds the rows and columns of a map are cut into.

    Args:
      grid: H and W.
      folds: Of the rows and of the columns, as configured.
      multiple: What the sides of a fold must be divisible by, if there is more than one.

    Returns:
      `folds`, or along an axis that does not divide the largest smaller number that does. (1, 1)
      unless both of `folds` are above 1, as in the published code.
    """
    if min(folds) == 1:
        return (1, 1)

    def largest(side: int, most: int) -> int:
        return max(n for n in range(1, most + 1) if n == 1 or side % (n * multiple) == 0)

    return largest(grid[0], folds[0]), largest(grid[1], folds[1])


def cut_folds(x: jax.Array, counts: tuple[int, int]) -> jax.Array:
    """`[B, H, W, C]` to `[B, F, n, C]`: F folds and n pixels of each, both row-major."""
    batch, height, width, channels = x.shape
    rows, columns = counts
    x = x.reshape(batch, rows, height // rows, columns, width // columns, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows * columns, -1, channels)


def join_folds(x: jax.Array, counts: tuple[int, int], grid: tuple[int, int]) -> jax.Array:
    """The inverse of `cut_folds`: `[B, F, n, C]` to `[B, *grid, C]`."""
    batch, channels = x.shape[0], x.shape[-1]
    rows, columns = counts
    x = x.reshape(batch, rows, columns, grid[0] // rows, grid[1] // columns, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, *grid, channels)
