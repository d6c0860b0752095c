"""Context Cluster: equal to the reference number for number, and usable in every configuration."""

import chex
import numpy as np
import pytest

import cluenet_jax
from cluenet_jax.models.backbones import FAMILIES
from cluenet_jax.weights import from_torch, to_torch
from tests.helpers import peers
from tests.helpers.models import random_images, random_variables, run, tiny_coc

PARAMETERS = {
    "coc_tiny": 5_570_584,
    "coc_tiny2": 5_570_584,
    "coc_tiny_plain": 5_570_584,
    "coc_small": 14_657_024,
    "coc_medium": 29_290_520,
    "coc_base_dim64": 54_231_100,
    "coc_base_dim96": 53_054_904,
    "coc_mini_cifar": 2_722_068,
}
# Of the names and shapes of the published code's tensors.
CHECKSUMS = {
    "coc_tiny": 2_884_497_688,
    "coc_tiny2": 2_884_497_688,
    "coc_tiny_plain": 2_884_497_688,
    "coc_small": 796_499_129,
    "coc_medium": 2_205_117_879,
    "coc_base_dim64": 1_684_960_221,
    "coc_base_dim96": 2_047_361_823,
    "coc_mini_cifar": 1_441_977_397,
}


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("coc_nano_32", "cpu"),
        ("coc_nano_32_count", "default"),
        ("coc_nano_224", "cpu"),
        ("coc_nano_plain_64x48", "default"),
        ("coc_nano_odd_64x48", "default"),
    ],
)
def test_outputs_and_gradients_equal_the_reference(name, backend):
    errors = peers.check_case(name, backend)
    assert max(errors.values(), default=0) < 1e-4, max(errors, key=errors.get)


def test_levels_equal_the_reference():
    peers.check_levels("coc_nano_backbone_32")


def test_parameters_are_counted_to_the_last_digit():
    published = [name for name in FAMILIES["coc"].variants if name != "coc_nano"]
    assert sorted(published) == sorted(PARAMETERS), "every published variant has its count here"
    for name, count in PARAMETERS.items():
        assert peers.count_and_checksum(name) == (count, CHECKSUMS[name]), name


def test_weights_of_the_older_form_are_read():
    model = tiny_coc()
    variables = random_variables(model, random_images(1, 16, 16, 3))
    older = to_torch(variables, model)
    for name, value in older.items():
        if ".mlp.fc" in name and name.endswith("weight"):
            older[name] = value[:, :, None, None]
    older["network.0.0.token_mixer.fea_pos"] = np.zeros((1, 2, 8, 8), np.float32)
    chex.assert_trees_all_equal(from_torch(older, model), variables)


@pytest.mark.parametrize("options", [dict(denominator="count", dtype="bfloat16")], ids=str)
def test_every_option_trains(options):
    peers.check_that_it_trains(tiny_coc(drop_path=0.0, **options))


# Maps of 15x21, 8x11, 4x6 and 2x3: most sides are no multiples of the folds.
@pytest.mark.parametrize("size", [(30, 42), (1, 2)])
def test_any_input_size(size):
    peers.check_size(tiny_coc(patch=(3, 2, 1), folds=((8, 8), (4, 4), (2, 2), (1, 1))), size)


def test_clusters_stay_within_their_folds():
    model = tiny_coc(folds=((4, 2), (2, 2), (1, 1), (1, 1)))
    x = random_images(2, 32, 32, 3)
    clusters, second, *_ = (
        np.asarray(stage_maps.clusters)
        for stage_maps in run(model, random_variables(model, x), x, method="features").maps
    )
    chex.assert_shape(clusters, (2, 1, 16, 16))
    fold = np.arange(16)[:, None] // 4 * 2 + np.arange(16) // 8
    np.testing.assert_array_equal(clusters // 4, np.broadcast_to(fold, clusters.shape))
    assert second.max() < 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(denominator="sum"), "similarity, count"),
        (dict(folds=((1, 1),) * 3), "folds=.* must be four pairs"),
        (dict(center_grids=((0, 1),) * 4), "center_grids=.* must be four pairs"),
        (dict(head_dim=0), "at least 1"),
        (dict(gate=True), "has no option 'gate'"),
    ],
)
def test_wrong_options_say_what_would_be_right(options, message):
    with pytest.raises(ValueError, match=message):
        cluenet_jax.create_model("coc_nano", **options)
