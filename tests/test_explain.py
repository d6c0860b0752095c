"""The maps: partitions, nested, shifting with the image; scores against closed forms."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

import cluenet_jax
from cluenet_jax import explain
from cluenet_jax.explain import drawing, quality
from cluenet_jax.explain.importance import blur
from tests.test_cluenet import first_weights, images, tiny


def tiny_clustr(**overrides):
    sizes = dict(num_classes=3, dims=(8, 8, 16, 16), heads=(1, 1, 2, 2), depths=(1, 1, 2, 1))
    return cluenet_jax.create_model("clustr_nano", **{**sizes, **overrides})


NETWORKS = {
    "cluenet": (tiny(), (2, 32, 32, 3)),
    "cluenet, odd size": (tiny(), (2, 31, 38, 3)),
    "cluenet, overlapping patches": (tiny(patch=(3, 1, 1)), (1, 12, 9, 3)),
    "cluenet, soft, no gate": (tiny(dispatch="soft", gate=False), (1, 16, 16, 3)),
    "clustr, odd size": (tiny_clustr(), (2, 33, 40, 3)),
}


@pytest.fixture(scope="module", params=NETWORKS)
def seen(request):
    model, shape = NETWORKS[request.param]
    x = images(*shape)
    variables = first_weights(model, x)
    return model, variables, x, explain.look(model, variables, x)


def test_every_map_gives_each_pixel_one_of_its_numbers(seen):
    model, _, x, look = seen
    assert len(look.clusters) == len(look.fields) == 4
    for clusters, field in zip(look.clusters, look.fields, strict=True):
        batch, _, height, width = clusters.shape
        chex.assert_type([clusters, field], jnp.int32)
        chex.assert_shape(field, x.shape[:3])
        assert 0 <= clusters.min() and 0 <= field.min() and field.max() < height * width
        assert batch == len(x)
    if isinstance(model, cluenet_jax.models.cluenet.CLUENet):
        heads = [c.shape[1] for c in look.clusters]
        assert heads == list(model.heads)
        assert max(int(c.max()) for c in look.clusters) < model.grid[0] * model.grid[1]


def test_receptive_fields_are_unions_of_those_below(seen):
    _, _, _, look = seen
    for below, above in zip(look.fields[:-1], look.fields[1:], strict=True):
        for fine, coarse in zip(np.asarray(below), np.asarray(above), strict=True):
            owners = {}
            for a, b in zip(fine.ravel(), coarse.ravel(), strict=True):
                assert owners.setdefault(a, b) == b, "a region has two owners"


def test_receptive_fields_follow_the_poolings_one_by_one():
    model, x = tiny(), images(2, 20, 26, 3)
    variables = first_weights(model, x)
    _, maps = jax.jit(lambda v, x: model.apply(v, x, return_maps=True))(variables, x)
    fields = explain.receptive_fields(model, variables, x)
    columns = maps["stage1/features"].shape[2]
    for b, row, column in [(0, 0, 0), (1, 19, 25), (0, 7, 11), (1, 12, 4)]:
        owner = (row // 2) * columns + column // 2  # patches of 2 x 2
        assert fields[0][b, row, column] == owner
        for stage in (1, 2, 3):
            owner = maps[f"pool{stage}/assignment"][b].ravel()[owner]
            assert fields[stage][b, row, column] == owner


def test_pixels_beyond_the_last_patch_go_to_the_nearest():
    model, x = tiny(patch=(4, 4, 0)), images(1, 19, 16, 3)
    field = explain.receptive_fields(model, first_weights(model, x), x)[0][0]
    np.testing.assert_array_equal(field[16:], field[12:15])


def test_a_batch_gives_the_same_as_one_by_one(seen):
    model, variables, x, look = seen
    for i in range(len(x)):
        alone = explain.look(model, variables, x[i : i + 1])
        for name in ("clusters", "fields"):
            ours, theirs = getattr(alone, name), getattr(look, name)
            chex.assert_trees_all_equal(ours, [t[i : i + 1] for t in theirs])


def test_maps_shift_with_the_image():
    """Without coordinates and neighbours, a shift by whole cells permutes pixels and centres."""
    model, x = tiny(dims=(8, 8, 8, 8)), images(1, 64, 64, 3)
    variables = first_weights(model, x)

    def local(path, leaf):
        names = [p.key for p in path]
        if names[-2:] == ["conv", "kernel"]:
            return leaf.at[:, :, 3:].set(0)  # the coordinates
        if names[-1] == "kernel" and leaf.shape[:2] == (3, 3):
            # Strided kernels read the first pixel of a pair, the others their own.
            return jnp.zeros_like(leaf).at[1, 1].set(leaf[1, 1])
        return leaf

    variables = jax.tree_util.tree_map_with_path(local, variables)
    # 16 image pixels are a pixel of stage 4, and a cell of the 4 x 4 centres at every stage.
    shifted = np.roll(x, (16, 32), axis=(1, 2))
    before, after = (explain.look(model, variables, i) for i in (x, shifted))
    chex.assert_trees_all_close(before.logits, after.logits, rtol=1e-4)
    for stage in range(4):
        side = before.clusters[stage].shape[2]
        step = (side // 4, side // 2)
        moved = np.roll(before.clusters[stage], step, axis=(2, 3))
        renumbered = (moved // 4 + 1) % 4 * 4 + (moved % 4 + 2) % 4
        np.testing.assert_array_equal(after.clusters[stage], renumbered)
        field = np.roll(before.fields[stage], (16, 32), axis=(1, 2))
        rows, columns = (field // side + step[0]) % side, (field % side + step[1]) % side
        np.testing.assert_array_equal(after.fields[stage], rows * side + columns)
    assert len(np.unique(before.clusters[0])) >= 4, "the test needs clusters"


def test_gates_are_those_of_each_pixels_centre():
    model, x = tiny(), images(2, 16, 16, 3)
    variables = first_weights(model, x)
    _, maps = jax.jit(lambda v, x: model.apply(v, x, return_maps=True))(variables, x)
    gates = explain.gate_map(model, variables, x)
    for stage, gate in enumerate(gates, 1):
        index = maps[f"stage{stage}/assignment"]
        assert gate.shape == index.shape
        b, g, row, column = 1, 0, 0, index.shape[3] - 1
        own = maps[f"stage{stage}/gate"][b, 0, g].ravel()[index[b, g, row, column]]
        assert gate[b, g, row, column] == own
    with pytest.raises(ValueError, match="no gated fusion"):
        explain.gate_map(tiny(gate=False), first_weights(tiny(gate=False), x), x)


def test_decision_regions_are_unions_of_the_last_stages_fields(seen):
    model, variables, x, look = seen
    for count in (1, 3, 8):
        regions = explain.decision_regions(look, count)
        assert regions.shape == x.shape[:3]
        for field, region in zip(np.asarray(look.fields[-1]), regions, strict=True):
            assert region.max() < count
            assert len(np.unique(np.stack([field, region]).reshape(2, -1), axis=1).T) == len(
                np.unique(field)
            )
            sizes = np.bincount(region.ravel())
            assert (np.diff(sizes) <= 0).all() and sizes.min() > 0
    np.testing.assert_array_equal(explain.decision_map(model, variables, x, 8), regions)
    with pytest.raises(ValueError, match="at least 1"):
        explain.decision_map(model, variables, x, 0)


def test_importance_of_the_whole_image_has_a_closed_form():
    model, x = tiny(), images(2, 16, 20, 3)
    variables = first_weights(model, x)
    classes = jnp.array([2, 0])
    found = explain.importance(model, variables, x, np.zeros(x.shape[:3], int), classes)

    def p(x):
        odds = jax.nn.softmax(jax.jit(model.apply)(variables, x))
        return np.take_along_axis(np.asarray(odds), classes[:, None], 1)[:, 0]

    grey = np.broadcast_to(x.mean(axis=(1, 2), keepdims=True), x.shape)
    expected = 0.5 * (p(x) - p(grey)) + 0.5 * p(x)
    np.testing.assert_allclose(found.score[:, 0], expected, atol=1e-6)


def test_importance_fills_and_blurs_as_defined_and_image_by_image():
    model, x = tiny(), images(3, 16, 16, 3)
    variables = first_weights(model, x)
    regions = np.random.default_rng(1).integers(0, 3, x.shape[:3])
    found = explain.importance(model, variables, x, regions)
    predicted = np.argmax(jax.jit(model.apply)(variables, x), axis=-1)
    np.testing.assert_array_equal(found.classes, predicted)
    for b in range(3):
        alone = explain.importance(
            model, variables, x[b : b + 1], regions[b : b + 1], num_regions=3
        )
        chex.assert_trees_all_close(
            jax.tree.map(lambda a: a[0], alone), jax.tree.map(lambda a, b=b: a[b], found), atol=1e-5
        )
    inside = (regions[0] == 1)[..., None]
    dropped = np.where(inside, x[0].mean(axis=(0, 1)), x[0])
    kept = np.where(inside, x[0], slow_blur(x[0]))
    odds = jax.nn.softmax(jax.jit(model.apply)(variables, np.stack([x[0], dropped, kept])))
    odds = odds[:, predicted[0]]
    np.testing.assert_allclose(found.drop[0, 1], odds[0] - odds[1], atol=1e-5)
    np.testing.assert_allclose(found.keep[0, 1], odds[2], atol=1e-5)


def slow_blur(image):
    kernel = np.exp(-(np.arange(-5, 6) ** 2) / 50)
    for axis in (0, 1):
        image = ndimage.correlate1d(image, kernel / kernel.sum(), axis, mode="mirror")
    return image


@pytest.mark.parametrize("size", [(7, 20), (3, 4), (1, 1)])
def test_blur_of_any_size(size):
    x = images(2, *size, 3)
    np.testing.assert_allclose(blur(jnp.asarray(x))[1], slow_blur(x[1]), atol=1e-5)


class Corner(nn.Module):
    """Class 1 is as likely as the upper left quarter is bright."""

    @nn.compact
    def __call__(self, x):
        size = x.shape[1] // 2, x.shape[2] // 2
        light = 4 * x[:, : size[0], : size[1]].mean(axis=(1, 2, 3))
        return jnp.stack([jnp.zeros_like(light), light], axis=-1)


def test_the_curves_reward_the_region_that_matters():
    x = np.full((2, 8, 8, 3), -1.0, np.float32)
    x[:, :4, :4] = 1.0
    quarters = np.broadcast_to(quality._grid(8, 8, 4), (2, 8, 8))
    classes = jnp.array([1, 1])
    scores = np.asarray(explain.importance(Corner(), {}, x, quarters, classes).score)
    assert (scores.argmax(axis=1) == 0).all()
    best = quality._ranks(quarters, scores)
    areas = {}
    for name, ranks in {"best": best, "worst": 3 - best}.items():
        for baseline in quality.BASELINES:
            fraction, deletion, insertion = explain.deletion_insertion(
                Corner(), {}, x, ranks, classes, 4, baseline
            )
            np.testing.assert_allclose(fraction[0], [0, 0.25, 0.5, 0.75, 1])
            whole = jax.nn.sigmoid(4.0)
            np.testing.assert_allclose(deletion[:, 0], whole, rtol=1e-5)
            np.testing.assert_allclose(insertion[:, -1], whole, rtol=1e-5)
            np.testing.assert_allclose(deletion[:, -1], insertion[:, 0], rtol=1e-5)
            areas[name, baseline] = (
                quality.area(fraction, deletion)[0],
                quality.area(fraction, insertion)[0],
            )
    for baseline in quality.BASELINES:
        assert areas["best", baseline][0] < areas["worst", baseline][0] - 0.1
        assert areas["best", baseline][1] > areas["worst", baseline][1] + 0.1


@pytest.mark.parametrize("model", [tiny(), tiny_clustr()], ids=["cluenet", "clustr"])
def test_grad_cam_is_the_gradient_of_what_follows_the_last_stage(model):
    x = images(2, 32, 32, 3)
    variables = first_weights(model, x)
    look = explain.look(model, variables, x)
    logits = quality.head_logits(variables["params"], look.features)
    chex.assert_trees_all_close(logits, look.logits, rtol=1e-5, atol=1e-5)
    cams = [explain.grad_cam(model, variables, x, jnp.array([c, c])) for c in (0, 1)]
    assert cams[0].shape == x.shape[:3] and min(float(c.min()) for c in cams) >= 0
    assert not np.allclose(*cams), "it depends on the class"


def test_scores_of_maps_count_every_image_and_add_up():
    model, x = tiny(), images(4, 16, 16, 3)
    variables = first_weights(model, x)
    scores = explain.evaluate_maps(model, variables, [x[:2], x[2:]], num_regions=4)
    again = explain.evaluate_maps(model, variables, [x[:2], x[2:]], num_regions=4)
    assert scores.count == 4 and len(scores.areas) == 20
    chex.assert_trees_all_equal(scores.areas, again.areas)
    report = scores.to_json()["methods"]
    own = report["grid"]["deletion_mean"]
    np.testing.assert_allclose(own["mean"], scores.areas["grid", "deletion", "mean"].mean())
    assert report["decision"]["insertion_blur"]["lead"] == 0
    lead = report["grid"]["deletion_mean"]["lead"]
    ahead = scores.areas["grid", "deletion", "mean"] - scores.areas["decision", "deletion", "mean"]
    np.testing.assert_allclose(lead, ahead.mean())
    assert "Grad-CAM" in scores.to_text()
    with pytest.raises(ValueError, match="no images"):
        explain.evaluate_maps(model, variables, [])


def test_all_rivals_take_the_same_shares():
    rng = np.random.default_rng(0)
    sizes = np.array([200, 0, 500, 68])
    blob = quality._cut(quality._smooth_noise(24, 32, rng), sizes)
    np.testing.assert_array_equal(np.bincount(blob.ravel(), minlength=4), sizes)
    assert max(ndimage.label(blob == k)[1] for k in range(4)) < 16, "blobs, not dust"
    grid = quality._grid(7, 9, 6)
    assert len(np.unique(grid)) == 6 and np.bincount(grid.ravel()).min() >= 6


def test_agreement_with_masks():
    regions = np.array([[[0, 0, 1], [2, 2, 1]]])
    for masks in (regions, 5 - regions):
        found = explain.mask_agreement(regions, masks)
        assert found["miou"] == found["nmi"] == found["ari"] == 1
    half = np.array([[[0, 0, 0], [1, 1, 1]]])
    # 0 matches the region of its two first pixels, 2 of 3; 1 likewise.
    np.testing.assert_allclose(explain.mask_agreement(regions, half)["miou"], 2 / 3)
    whole = np.zeros((1, 2, 3), int)
    np.testing.assert_allclose(explain.mask_agreement(whole, half)["miou"], 0.25)
    ignored = np.array([[[0, 0, -1], [1, 1, -1]]])
    assert explain.mask_agreement(regions, ignored)["ari"] == 1
    assert np.isnan(explain.mask_agreement(regions, -np.ones_like(regions))["miou"])
    with pytest.raises(ValueError, match="shape"):
        explain.mask_agreement(regions, half[:, :1])


def test_colours_belong_to_clusters():
    colors = drawing.cluster_colors(np.arange(24))
    assert len({tuple(c) for c in colors}) == 24
    np.testing.assert_array_equal(drawing.cluster_colors(np.array([[7]]))[0, 0], colors[7])
    shades = drawing.score_colors(np.linspace(-1, 1, 9)).astype(int).sum(axis=1)
    assert (np.diff(shades) > 0).all()


def test_borders_and_smoothing():
    regions = np.zeros((8, 8), int)
    regions[:, 4:] = 1
    assert drawing.borders(regions)[:, 3].all() and drawing.borders(regions).sum() == 8
    smooth = drawing.smooth_regions(regions, 32)
    assert smooth.shape == (32, 32) and set(np.unique(smooth)) == {0, 1}
    np.testing.assert_array_equal(smooth, drawing.enlarge(regions, 32))
    regions[3, 1] = 1  # a speck
    assert drawing.smooth_regions(regions, 32)[:, :12].sum() < 16
