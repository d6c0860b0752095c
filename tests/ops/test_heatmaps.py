"""Heatmaps: targets, decoding and the mean with the mirrored image are mmpose's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cluenet_jax import ops
from tests.helpers import dense
from tests.helpers.golden import relative_error


@pytest.fixture(scope="module")
def codec():
    return dense.load_dense("pose_codec")


@pytest.mark.parametrize(("name", "sigma"), [("256x192", 2.0), ("384x288", 3.0)])
def test_targets_equal_the_reference(codec, name, sigma):
    case = dense.part(codec, f"{name}/")
    count, keypoints, height, width = case["heatmaps_shape"]
    expected = np.zeros(case["heatmaps_shape"].prod(), np.float32)
    expected[case["heatmaps_sparse_index"]] = case["heatmaps_sparse_value"]
    expected = expected.reshape(count, keypoints, height, width).transpose(0, 2, 3, 1)
    targets, weights = jax.jit(ops.heatmap_targets, static_argnums=(2, 3, 4))(
        case["keypoints"], case["visible"], (int(height), int(width)), 4, sigma
    )
    assert relative_error(targets, expected) < 1e-5
    np.testing.assert_array_equal(np.asarray(targets) == 0, expected == 0)
    np.testing.assert_array_equal(weights, case["weights"])
    places, scores = ops.decode_heatmaps(targets)
    np.testing.assert_allclose(places * 4, case["decoded"], atol=1e-4)
    np.testing.assert_allclose(scores, case["decoded_scores"], rtol=1e-6)


@pytest.mark.parametrize(("together", "suffix"), [(False, ""), (True, "_028")])
def test_decoding_equals_the_reference(codec, together, suffix):
    """Borders, corners, equal maxima, empty and negative maps."""
    case = dense.part(codec, "maps/")
    maps = case["heatmaps"].transpose(1, 2, 0)[None]
    decode = jax.jit(ops.decode_heatmaps, static_argnames="together")
    places, scores = decode(maps, together=together)
    np.testing.assert_array_equal(scores[0], case[f"scores{suffix}"])
    factor = case["side"] / np.array([48, 64])
    in_image = np.asarray(places[0]) * factor + case["centre"] - case["side"] / 2
    np.testing.assert_allclose(in_image, case[f"decoded_picture{suffix}"], rtol=1e-5)
    if not together:
        np.testing.assert_allclose(places[0] * 4, case["decoded"], rtol=1e-6)


@pytest.mark.parametrize("shift", [True, False])
def test_the_mean_with_the_mirrored_image_equals_the_reference(codec, shift):
    plain, mirrored = (dense.normal((1, 133, 8, 6), seed) for seed in (72, 73))
    order = codec["flip_indices"]
    maps = [jnp.asarray(a.transpose(0, 2, 3, 1)) for a in (plain, mirrored)]
    merged = np.asarray(ops.merge_mirrored(*maps, order, shift)).transpose(0, 3, 1, 2)
    back = codec["flip/shifted" if shift else "flip/unshifted"]
    np.testing.assert_allclose(merged, (plain + back) / 2, atol=1e-6)
    if shift:
        np.testing.assert_allclose(merged, codec["flip/merged"], atol=1e-6)


def test_decoding_finds_any_target_again():
    """Within half a map pixel, wherever it is inside the map."""
    points = jnp.asarray(np.random.default_rng(0).uniform(0, (46, 62), (5, 40, 2)) * 4)
    targets, weights = ops.heatmap_targets(points, jnp.ones((5, 40)), (64, 48), 4, 2.0)
    places, scores = ops.decode_heatmaps(targets)
    assert np.abs(places * 4 - points).max() <= 2
    np.testing.assert_allclose(scores, 1, rtol=1e-6)
    assert ops.heatmap_loss(targets, targets, weights) == 0


def test_what_is_not_visible_costs_nothing():
    points = jnp.full((1, 2, 2), 20.0)
    visible = jnp.array([[1.0, 0.0]])
    targets, weights = ops.heatmap_targets(points, visible, (16, 12), 4, 2.0)
    assert targets[..., 1].max() == 0
    heatmaps = targets.at[..., 1].set(7.0)
    assert ops.heatmap_loss(heatmaps, targets, weights) == 0
    assert ops.heatmap_loss(heatmaps + 1, targets, weights) == pytest.approx(0.5)
