"""Borders and smoothing of regions."""

import numpy as np

from cluenet_jax.visualization import drawing


def test_borders_and_smoothing():
    regions = np.zeros((8, 8), int)
    regions[:, 4:] = 1
    assert drawing.borders(regions)[:, 3].all() and drawing.borders(regions).sum() == 8
    smooth = drawing.smooth_regions(regions, 32)
    assert smooth.shape == (32, 32) and set(np.unique(smooth)) == {0, 1}
    np.testing.assert_array_equal(smooth, drawing.enlarge(regions, 32))
    regions[3, 1] = 1  # a speck
    assert drawing.smooth_regions(regions, 32)[:, :12].sum() < 16
