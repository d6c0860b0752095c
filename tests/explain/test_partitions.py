"""Partitions without a model: their numbers and shapes, and what is missing without the extra."""

import sys

import numpy as np
import pytest

from cluenet_jax.errors import UserError
from cluenet_jax.explain import grid_partition, partitions_to_compare, slic_partition
from tests.helpers.images import smooth_image


@pytest.mark.parametrize("count", [1, 2, 7, 16, 49, 100, 256])
@pytest.mark.parametrize("shape", [(64, 64), (36, 48), (17, 90)])
def test_a_grid_has_nearly_equal_rectangles(shape, count):
    grid = grid_partition(shape, count)
    assert grid.shape == shape and grid.dtype == np.int32
    numbers, areas = np.unique(grid, return_counts=True)
    np.testing.assert_array_equal(numbers, np.arange(len(numbers)))
    assert abs(len(numbers) - count) <= max(1, 0.1 * count)
    for number in numbers:
        ys, xs = np.nonzero(grid == number)
        assert (np.ptp(ys) + 1) * (np.ptp(xs) + 1) == len(ys)
    assert areas.max() <= 1.5 * areas.min() + max(shape)


def test_known_grids():
    np.testing.assert_array_equal(grid_partition((2, 4), 2), [[0, 0, 1, 1]] * 2)
    assert grid_partition((64, 64), 49).max() == 48
    assert grid_partition((48, 64), 12)[0].max() == 3
    assert grid_partition((3, 3), 50).max() == 8


@pytest.mark.parametrize("count", [16, 49])
def test_superpixels_follow_the_image(count):
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, 29:] = 255
    regions = slic_partition(image, count)
    assert regions.shape == (48, 64) and regions.min() == 0
    assert abs(regions.max() + 1 - count) <= 0.3 * count
    assert not {*np.unique(regions[:, :29])} & {*np.unique(regions[:, 29:])}


def test_without_scikit_image_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(UserError, match=r"pip install 'cluenet-jax\[superpixels\]'"):
        slic_partition(np.asarray(smooth_image(0)), 4)


def test_rivals_have_as_many_parts_as_a_stage():
    """Two maps of 16 and 32 clusters, each pixel of the stage owning 8 x 8 of the image."""
    image = np.asarray(smooth_image(0, 64, 64))
    index = np.arange(64, dtype=np.int32).reshape(8, 8)
    clusters = [np.stack([index // 4, index // 2])]
    fields = [np.repeat(np.repeat(index, 8, 0), 8, 1)]
    partitions = partitions_to_compare(image, clusters, fields)
    assert list(partitions) == ["stage 1", "stage 1, grid", "stage 1, SLIC"]
    np.testing.assert_array_equal(partitions["stage 1"][1][:, 0], np.arange(64) // 8 * 4)
    assert len(np.unique(partitions["stage 1, grid"])) == 24
    assert 16 <= len(np.unique(partitions["stage 1, SLIC"])) <= 32
