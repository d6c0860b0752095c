"""Colors of clusters and scores."""

import numpy as np

from cluenet_jax.visualization.colors import cluster_colors, mean_colors, score_colors


def test_colors_belong_to_clusters():
    colors = cluster_colors(np.arange(24))
    assert len({tuple(c) for c in colors}) == 24
    np.testing.assert_array_equal(cluster_colors(np.array([[7]]))[0, 0], colors[7])
    shades = score_colors(np.linspace(-1, 1, 9)).astype(int).sum(axis=1)
    assert (np.diff(shades) > 0).all()


def test_a_region_has_the_mean_color_of_its_pixels():
    image = np.array([[[0, 0, 0], [100, 50, 10]], [[8, 8, 8], [9, 9, 9]]], np.uint8)
    field = np.array([[5, 5], [0, 2]])
    expected = [[[50, 25, 5], [50, 25, 5]], [[8, 8, 8], [9, 9, 9]]]
    np.testing.assert_array_equal(mean_colors(image, field), expected)
