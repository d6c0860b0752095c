"""Semantic FPN: equal to mmsegmentation's, alone and on both families of backbones."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cluenet_jax
from cluenet_jax.models import Model
from tests.helpers import dense
from tests.helpers.golden import relative_error
from tests.helpers.models import random_variables, run
from tests.models.heads.recorded import GRADIENTS, VALUES, assert_close, check_head

WIDTHS = dict(neck_width=24, width=16, dropout=0.0)
LEVELS = tuple(
    dense.normal((2, *size, 8 + 2 * i), i)
    for i, size in enumerate([(9, 14), (5, 7), (3, 4), (2, 2)])
)
CHANNELS = (8, 10, 12, 14)
MODELS = {
    "clustr_sem_fpn_64": ("clustr_nano", {}),
    "clustr_sem_fpn_96x128": ("clustr_nano", {}),
    "clustr_stride4_sem_fpn_72x104": ("clustr_nano", dict(patch=(7, 4))),
    "cluenet_sem_fpn_64": ("cluenet_nano", {}),
    "cluenet_sem_fpn_96x128": ("cluenet_nano", {}),
}


def tiny_head(num_classes=5, **options):
    sizes = dict(neck_width=6, width=8)
    return cluenet_jax.create_head("semantic_fpn", CHANNELS, num_classes, **{**sizes, **options})


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", ["sem_fpn_even", "sem_fpn_odd"])
def test_the_head_equals_the_reference(name, train):
    case = dense.load_dense(name)
    head = cluenet_jax.create_head("semantic_fpn", (32, 48, 64, 96), 6, **WIDTHS)
    check_head(case, head, lambda y: (dense.pixel_loss(y, case["labels"]), {"logits": y}), train)


@pytest.mark.parametrize("name", MODELS)
def test_a_whole_model_equals_the_reference(name):
    backbone_name, options = MODELS[name]
    case = dense.load_dense(name)
    backbone = cluenet_jax.create_backbone(backbone_name, drop_path=0.0, **options)
    head = cluenet_jax.create_head("semantic_fpn", backbone.channels, 6, **WIDTHS)
    model = Model(backbone, head)
    variables, images = dense.variables_of(case, model), dense.images_of(case)

    def loss(params):
        inputs = {**variables, "params": params}
        levels = model.apply(inputs, images, method="features").levels
        logits = model.apply(inputs, levels, method="decode")
        return dense.pixel_loss(logits, case["labels"]), (levels, logits)

    run = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (total, (levels, logits)), grads = run(variables["params"])
    assert_close(
        {"loss": total, "logits": logits}, {k: case[k] for k in ("loss", "logits")}, VALUES
    )
    for i, level in enumerate(levels):
        scale = np.abs(level).sum((1, 2)).max()
        error = np.abs(level.sum((1, 2)) - case[f"level{i}_sum"]).max()
        assert error < VALUES * scale
    named = dense.gradients_to_torch(variables, grads, model)
    for i, name in enumerate(sorted(named)):
        norm = case["gradient_norm"][i]
        if name.endswith("weight_layer.bias"):
            # A factor common to all weights cancels: what is recorded is rounding.
            assert max(norm, np.abs(named[name]).max()) < 1e-6
            continue
        assert relative_error(np.linalg.norm(named[name]), norm) < GRADIENTS, name
        direction = dense.probe(name, named[name].shape, int(case["seed"]))
        assert abs((named[name] * direction).sum() - case["gradient_probe"][i]) < (
            GRADIENTS * norm * np.sqrt(direction.size)
        ), name


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_trains_at_any_size_and_type(dtype, train):
    head = tiny_head(dtype=dtype)
    variables = random_variables(head, LEVELS)

    def loss(params):
        logits, _ = head.apply(
            {**variables, "params": params},
            LEVELS,
            train=train,
            rngs={"dropout": jax.random.key(0)},
            mutable=["batch_stats"],
        )
        chex.assert_shape(logits, (2, 9, 14, 5))
        chex.assert_type(logits, jnp.float32)
        return jnp.square(logits).sum()

    grads = jax.jit(jax.grad(loss))(variables["params"])
    chex.assert_tree_all_finite(grads)
    assert all(np.abs(grad).max() > 0 for grad in jax.tree.leaves(grads))


def test_short_types_change_the_logits_little():
    variables = random_variables(tiny_head(), LEVELS)
    logits = run(tiny_head(), variables, LEVELS)
    short = run(tiny_head(dtype="bfloat16"), variables, LEVELS)
    assert relative_error(short, logits) < 0.05


def test_training_drops_whole_channels_of_an_image():
    head = tiny_head(num_classes=8, dropout=0.5)
    variables = random_variables(head, LEVELS)
    params = variables["params"]["decode_head"]["classifier"]["linear"]
    params.update(kernel=jnp.eye(8), bias=jnp.zeros(8))

    def logits(train):
        rngs = {"dropout": jax.random.key(0)}
        return np.asarray(run(head, variables, LEVELS, rngs, train=train))

    dropped = (logits(True) == 0).all((1, 2))
    assert 0 < dropped.sum() < dropped.size and (dropped[0] != dropped[1]).any()
    assert not (logits(False) == 0).all((1, 2)).any()


def test_initial_weights_are_those_of_the_reference():
    head = tiny_head(num_classes=300, width=64)
    params = jax.jit(head.init)(jax.random.key(0), LEVELS)["params"]["decode_head"]
    classifier = params["classifier"]["linear"]
    np.testing.assert_allclose(np.std(classifier["kernel"]), 0.01, rtol=0.05)
    np.testing.assert_array_equal(classifier["bias"], 0)
    np.testing.assert_allclose(
        np.std(params["level3_step1"]["conv"]["kernel"]), np.sqrt(2 / (9 * 64)), rtol=0.05
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(dropout=1.0), "dropout=1.0 must be at least 0 and below 1"),
        (dict(neck_width=0), "neck_width=0 must be at least 1"),
        (dict(num_classes=0), "num_classes=0 must be at least 1"),
        (dict(dtype="float16"), "float32, bfloat16"),
        (dict(widht=8), "head semantic_fpn: .*'widht'"),
    ],
)
def test_wrong_options_say_what_would_be_right(options, message):
    with pytest.raises(ValueError, match=message):
        tiny_head(**options)


def test_wrong_levels_say_what_would_be_right():
    with pytest.raises(ValueError, match=r"expected \[batch, height, width, 8\], .* 14\]\."):
        tiny_head().init(jax.random.key(0), LEVELS[:3])
    with pytest.raises(ValueError, match=r"levels have the shapes .*\(2, 9, 14, 8\)\]"):
        tiny_head().init(jax.random.key(0), LEVELS[::-1])
