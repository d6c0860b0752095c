"""Maps of every backbone: partitions, nested, shifting with the image."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cluenet_jax
from cluenet_jax import explain
from tests.helpers.models import (
    random_images,
    random_variables,
    run,
    tiny_cluenet,
    tiny_clusterformer,
    tiny_clustr,
    tiny_coc,
    tiny_fec,
)

MODELS = {
    "cluenet": (tiny_cluenet(), (2, 32, 32, 3)),
    "cluenet, odd size": (tiny_cluenet(), (2, 31, 38, 3)),
    "cluenet, overlapping patches": (tiny_cluenet(patch=(3, 1, 1)), (1, 12, 9, 3)),
    "cluenet, soft, no gate": (tiny_cluenet(dispatch="soft", gate=False), (1, 16, 16, 3)),
    # With some other sizes two tokens are so nearly equal that rounding decides between them.
    "clustr, odd size": (tiny_clustr(), (2, 39, 40, 3)),
    "coc": (tiny_coc(), (2, 32, 32, 3)),
    "fec, odd size": (tiny_fec(), (2, 31, 38, 3)),
    "clusterformer": (tiny_clusterformer(), (1, 32, 32, 3)),
}


@pytest.fixture(scope="module", params=MODELS)
def computed(request):
    model, shape = MODELS[request.param]
    images = random_images(*shape)
    variables = random_variables(model, images)
    return model, variables, images, explain.compute_maps(model, variables, images)


def test_every_map_gives_each_pixel_one_of_its_numbers(computed):
    model, _, images, maps = computed
    assert len(maps.clusters) == len(maps.fields) == len(maps.gates) == 4
    for clusters, field in zip(maps.clusters, maps.fields, strict=True):
        batch, _, height, width = clusters.shape
        chex.assert_type([clusters, field], jnp.int32)
        chex.assert_shape(field, images.shape[:3])
        assert 0 <= clusters.min() and 0 <= field.min() and field.max() < height * width
        assert batch == len(images)
    if hasattr(model.backbone, "center_grid"):
        heads = [clusters.shape[1] for clusters in maps.clusters]
        assert heads == list(model.backbone.num_heads)
        rows, columns = model.backbone.center_grid
        assert max(int(clusters.max()) for clusters in maps.clusters) < rows * columns


def test_receptive_fields_are_unions_of_those_below(computed):
    _, _, _, maps = computed
    for below, above in zip(maps.fields[:-1], maps.fields[1:], strict=True):
        for fine, coarse in zip(np.asarray(below), np.asarray(above), strict=True):
            owners = {}
            for a, b in zip(fine.ravel(), coarse.ravel(), strict=True):
                assert owners.setdefault(a, b) == b, "a region has two owners"


def test_receptive_fields_follow_the_poolings_one_by_one():
    model, images = tiny_cluenet(), random_images(2, 20, 26, 3)
    variables = random_variables(model, images)
    features = run(model, variables, images, method="features")
    fields = explain.receptive_fields(model, variables, images)
    columns = features.levels[0].shape[2]
    for b, row, column in [(0, 0, 0), (1, 19, 25), (0, 7, 11), (1, 12, 4)]:
        owner = (row // 2) * columns + column // 2  # patches of 2 x 2
        assert fields[0][b, row, column] == owner
        for stage in (1, 2, 3):
            owner = features.maps[stage - 1].parents[b].ravel()[owner]
            assert fields[stage][b, row, column] == owner


def test_receptive_fields_of_strided_convolutions_are_squares():
    model, images = tiny_clustr(), random_images(1, 32, 32, 3)
    fields = explain.receptive_fields(model, random_variables(model, images), images)
    line, cells = np.arange(32), 32
    for field in fields:
        # Windows of 3 in steps of 2: the middle of window i is at pixel 2 i.
        cells //= 2
        line = np.minimum((line + 1) // 2, cells - 1)
        np.testing.assert_array_equal(field[0], line[:, None] * cells + line)


def test_pixels_beyond_the_last_patch_go_to_the_nearest():
    model, images = tiny_cluenet(patch=(4, 4, 0)), random_images(1, 19, 16, 3)
    field = explain.receptive_fields(model, random_variables(model, images), images)[0][0]
    np.testing.assert_array_equal(field[16:], field[12:15])


def test_a_batch_gives_the_same_as_one_by_one(computed):
    model, variables, images, maps = computed
    for i in range(len(images)):
        alone = explain.compute_maps(model, variables, images[i : i + 1])
        for name in ("clusters", "fields"):
            ours, theirs = getattr(alone, name), getattr(maps, name)
            chex.assert_trees_all_equal(ours, [t[i : i + 1] for t in theirs])


def test_a_bare_backbone_has_the_same_maps(computed):
    model, variables, images, maps = computed
    variables = {name: tree["backbone"] for name, tree in variables.items()}
    clusters = explain.cluster_maps(model.backbone, variables, images)
    chex.assert_trees_all_equal(clusters, maps.clusters)


def test_any_created_backbone_has_maps():
    model = cluenet_jax.create_backbone("cluenet_nano")
    images = random_images(1, 32, 32, 3)
    regions = explain.decision_map(model, random_variables(model, images), images, 2)
    assert regions.shape == (1, 32, 32) and regions.max() < 2


def test_maps_shift_with_the_image():
    """Without coordinates and neighbors, a shift by whole cells permutes pixels and centers."""
    model, images = tiny_cluenet(dims=(8, 8, 8, 8)), random_images(1, 64, 64, 3)
    variables = random_variables(model, images)

    def local(path, leaf):
        names = [p.key for p in path]
        if names[-2:] == ["conv", "kernel"]:
            return leaf.at[:, :, 3:].set(0)  # the coordinates
        if names[-1] == "kernel" and leaf.shape[:2] == (3, 3):
            # Strided kernels read the first pixel of a pair, the others their own.
            return jnp.zeros_like(leaf).at[1, 1].set(leaf[1, 1])
        # With random biases and scales centers are so alike that pixels tie between them in
        # float32, and a tie goes to the lowest number, which does not shift.
        if names[-1] == "bias":
            return jnp.zeros_like(leaf)
        if names[-1] == "scale":
            return jnp.ones_like(leaf)
        return leaf

    variables = jax.tree_util.tree_map_with_path(local, variables)
    # 16 image pixels are a pixel of stage 4, and a cell of the 4 x 4 centers at every stage.
    shifted = np.roll(images, (16, 32), axis=(1, 2))
    before, after = (explain.compute_maps(model, variables, i) for i in (images, shifted))
    logits = [run(model, variables, i) for i in (images, shifted)]
    chex.assert_trees_all_close(*logits, rtol=1e-4)
    for stage in range(4):
        side = before.clusters[stage].shape[2]
        step = (side // 4, side // 2)
        moved = np.roll(before.clusters[stage], step, axis=(2, 3))
        renumbered = (moved // 4 + 1) % 4 * 4 + (moved % 4 + 2) % 4
        np.testing.assert_array_equal(after.clusters[stage], renumbered)
        field = np.roll(before.fields[stage], (16, 32), axis=(1, 2))
        rows, columns = (field // side + step[0]) % side, (field % side + step[1]) % side
        np.testing.assert_array_equal(after.fields[stage], rows * side + columns)
        assert len(np.unique(before.clusters[stage])) >= 4, "the test needs clusters"


def test_gates_are_those_of_each_pixels_center():
    model, images = tiny_cluenet(), random_images(2, 16, 16, 3)
    variables = random_variables(model, images)
    features = run(model, variables, images, method="features")
    gates = explain.gate_map(model, variables, images)
    for stage, gate in zip(features.maps, gates, strict=True):
        index = stage.clusters
        assert gate.shape == index.shape
        b, g, row, column = 1, 0, 0, index.shape[3] - 1
        own = stage.gate[b, 0, g].ravel()[index[b, g, row, column]]
        assert gate[b, g, row, column] == own


@pytest.mark.parametrize("model", [tiny_cluenet(gate=False), tiny_clustr()], ids=["off", "clustr"])
def test_a_model_without_gates_has_no_gate_map(model):
    images = random_images(2, 16, 16, 3)
    with pytest.raises(ValueError, match="gated fusion"):
        explain.gate_map(model, random_variables(model, images), images)


def test_decision_regions_are_unions_of_the_last_stages_fields(computed):
    model, variables, images, maps = computed
    for count in (1, 3, 8):
        regions = explain.decision_regions(maps, count)
        assert regions.shape == images.shape[:3]
        for field, region in zip(np.asarray(maps.fields[-1]), regions, strict=True):
            assert region.max() < count
            assert len(np.unique(np.stack([field, region]).reshape(2, -1), axis=1).T) == len(
                np.unique(field)
            )
            sizes = np.bincount(region.ravel())
            assert (np.diff(sizes) <= 0).all() and sizes.min() > 0
    np.testing.assert_array_equal(explain.decision_map(model, variables, images, 8), regions)
    with pytest.raises(ValueError, match="at least 1"):
        explain.decision_map(model, variables, images, 0)


def test_a_map_in_the_image_has_the_values_of_the_owners(computed):
    _, _, images, maps = computed
    for field, clusters in zip(maps.fields, maps.clusters, strict=True):
        shown = explain.to_image_grid(field, clusters)
        assert shown.shape == (len(images), clusters.shape[1], *images.shape[1:3])
        b, row, column = len(images) - 1, images.shape[1] - 1, 3
        owner = int(field[b, row, column])
        expected = np.asarray(clusters)[b].reshape(clusters.shape[1], -1)[:, owner]
        np.testing.assert_array_equal(shown[b, :, row, column], expected)
