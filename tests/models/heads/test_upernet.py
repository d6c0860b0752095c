"""UperNet and its auxiliary head: equal to mmsegmentation's."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cluenet_jax
from tests.helpers import dense
from tests.helpers.models import random_variables, run
from tests.models.heads.recorded import check_head

LEVELS = tuple(
    dense.normal((2, *size, 8 + 2 * i), i)
    for i, size in enumerate([(9, 14), (5, 7), (3, 4), (2, 2)])
)
CHANNELS = (8, 10, 12, 14)


def tiny_head(**options):
    sizes = dict(width=6, auxiliary_width=4)
    return cluenet_jax.create_head("upernet", CHANNELS, 5, **{**sizes, **options})


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", ["upernet_even", "upernet_odd"])
def test_the_head_equals_the_reference(name, train):
    case = dense.load_dense(name)
    head = cluenet_jax.create_head(
        "upernet", (32, 48, 64, 96), 6, width=16, auxiliary_width=20, dropout=0.0
    )

    def loss(output):
        logits, auxiliary_logits = output
        decode = dense.pixel_loss(logits, case["labels"])
        auxiliary = 0.4 * dense.pixel_loss(auxiliary_logits, case["labels"])
        values = dict(logits=logits, auxiliary_logits=auxiliary_logits)
        return decode + auxiliary, {**values, "loss_decode": decode, "loss_auxiliary": auxiliary}

    check_head(case, head, loss, train, auxiliary=True)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_trains_at_any_size_and_type(dtype, train):
    head = tiny_head(dtype=dtype)
    variables = random_variables(head, LEVELS)

    def loss(params):
        (logits, auxiliary_logits), _ = head.apply(
            {**variables, "params": params},
            LEVELS,
            train=train,
            auxiliary=True,
            rngs={"dropout": jax.random.key(0)},
            mutable=["batch_stats"],
        )
        chex.assert_shape(logits, (2, 9, 14, 5))
        chex.assert_shape(auxiliary_logits, (2, 3, 4, 5))
        chex.assert_type([logits, auxiliary_logits], jnp.float32)
        return jnp.square(logits).sum() + jnp.square(auxiliary_logits).sum()

    grads = jax.jit(jax.grad(loss))(variables["params"])
    chex.assert_tree_all_finite(grads)
    assert all(np.abs(grad).max() > 0 for grad in jax.tree.leaves(grads))


def test_the_auxiliary_head_runs_when_asked_but_is_always_initialized():
    head = tiny_head()
    logits, variables = jax.jit(head.init_with_output)(jax.random.key(0), LEVELS)
    assert variables["params"].keys() == {"decode_head", "auxiliary_head"}
    chex.assert_shape(logits, (2, 9, 14, 5))
    pair = run(head, variables, LEVELS, auxiliary=True)
    np.testing.assert_allclose(pair[0], logits, atol=1e-5)
    rngs = {"dropout": jax.random.key(0)}
    _, changes = run(head, variables, LEVELS, rngs, train=True, mutable=("batch_stats",))
    stats = changes["batch_stats"]
    assert stats["decode_head"]["fusion"]["bn"]["num_batches"] == 1
    assert stats["auxiliary_head"]["hidden"]["bn"]["num_batches"] == 0


def test_one_image_cannot_train():
    head, image = tiny_head(dropout=0.0), tuple(level[:1] for level in LEVELS)
    variables = random_variables(head, LEVELS)
    chex.assert_shape(run(head, variables, image), (1, 9, 14, 5))
    with pytest.raises(ValueError, match="train on at least two images"):
        head.apply(variables, image, train=True)


def test_wrong_options_say_what_would_be_right():
    with pytest.raises(ValueError, match="auxiliary_width=0 must be at least 1"):
        tiny_head(auxiliary_width=0)
