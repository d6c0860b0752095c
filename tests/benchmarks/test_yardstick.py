"""The plain vision transformer and its training step; nothing is compiled for a TPU."""

import math

import jax
import jax.numpy as jnp
import optax

import cluenet_jax
from benchmarks import yardstick


def test_the_transformer_has_the_size_of_vit_ti():
    for num_classes, count in ((100, 5_543_332), (1000, 5_717_032)):
        model = yardstick.vit(num_classes, dtype=jnp.bfloat16)
        images = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
        logits, variables = jax.eval_shape(
            lambda x: model.init_with_output(jax.random.key(0), x), images
        )
        params = jax.tree.leaves(variables["params"])
        assert sum(math.prod(leaf.shape) for leaf in params) == count
        assert {leaf.dtype for leaf in params} == {jnp.dtype("float32")}
        assert (logits.shape, logits.dtype) == ((2, num_classes), jnp.float32)


def test_its_training_step_learns_a_batch():
    model = yardstick.vit(3, patch=4, dim=16, depth=1, num_heads=2)
    optimizer = optax.adamw(1e-2)
    state = yardstick.new_state(model, optimizer, 8, jax.random.key(0))
    batch = {
        "image": jax.random.normal(jax.random.key(1), (6, 8, 8, 3)),
        "label": jnp.arange(6) % 3,
    }
    step = jax.jit(yardstick.train_step(model, optimizer))
    losses = []
    for _ in range(20):
        state, loss = step(state, batch)
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0] and state["step"] == 20


def test_variants_have_the_same_step():
    model = cluenet_jax.create_model("cluenet_nano", 10, dtype="bfloat16")
    optimizer = optax.adamw(1e-3)
    state = jax.eval_shape(
        lambda key: yardstick.new_state(model, optimizer, 32, key), jax.random.key(0)
    )
    batch = {
        "image": jax.ShapeDtypeStruct((4, 32, 32, 3), jnp.float32),
        "label": jax.ShapeDtypeStruct((4,), jnp.int32),
    }
    after, loss = jax.eval_shape(yardstick.train_step(model, optimizer), state, batch)
    assert after == state and loss.shape == ()


def test_the_ratio_is_of_the_variant_to_the_transformer():
    row = {"model": "ViT-Ti/16", "parameters": 5_543_332, "cycles": 10, "without_estimate": 1}
    row |= {"bytes_accessed": 9e9, "temporaries": 6e8}
    result = {"size": 224, "batch_per_device": 32, "topology": "v5e:2x2", "dtype": "bfloat16"}
    result["rows"] = [row, {**row, "model": "cluenet_tiny", "cycles": 35}]
    text = yardstick.to_text(result)
    assert "cluenet_tiny takes 3.50 times the cycles of ViT-Ti/16." in text
    assert "| 5.54 M | 0.0 M | 1 | 9.00 GB | 0.60 GB |" in text
    refused = {"model": "cluenet_tiny", "parameters": 5_700_000, "refusal": "Ran out of memory"}
    assert "does not fit" in yardstick.to_text({**result, "rows": [row, refused]})
