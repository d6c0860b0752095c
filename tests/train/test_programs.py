"""The programs of a run: what they say of states and batches, before any is made."""

import io

import jax
import numpy as np
import pytest
from PIL import Image

from cluenet_jax.config import default_config
from cluenet_jax.data import DatasetInfo, describe_dataset, load_dataset, train_batches
from cluenet_jax.train import sharding
from cluenet_jax.train.programs import Programs
from tests.tasks import mean_color


def small_config(shard_params: bool):
    config = default_config()
    config.model.cluenet.update(
        dict(dims=(8, 8, 8, 8), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), head_dim=8)
    )
    config.data.image_size = 16
    config.optim.batch_size = config.eval.batch_size = 8
    config.optim.ema_decay = 0.9
    config.train.shard_params = shard_params
    return config


@pytest.mark.parametrize("shard_params", [False, True])
def test_the_spec_of_a_state_is_that_of_a_state(shard_params):
    programs = Programs.create(
        small_config(shard_params), describe_dataset("digits"), 100, sharding.make_mesh()
    )
    state, spec = programs.create_state(), programs.state_spec()
    assert jax.tree.structure(state) == jax.tree.structure(spec)
    for array, form in zip(jax.tree.leaves(state), jax.tree.leaves(spec), strict=True):
        assert (array.shape, array.dtype) == (form.shape, form.dtype)
        assert array.sharding.is_equivalent_to(form.sharding, array.ndim)


def test_the_spec_of_a_batch_is_that_of_a_batch():
    programs = Programs.create(
        small_config(False), describe_dataset("digits"), 100, sharding.make_mesh()
    )
    source = load_dataset("digits").train
    batches = train_batches(source, programs.task.train_example, batch_size=8, seed=0)
    batch = sharding.to_devices(next(iter(batches)), programs.mesh)
    batches.close()
    spec = programs.batch_spec(8)
    assert batch.keys() == spec.keys()
    for key, array in batch.items():
        assert (array.shape, array.dtype) == (spec[key].shape, spec[key].dtype), key
        assert array.sharding.is_equivalent_to(spec[key].sharding, array.ndim)


def test_programs_of_any_task_are_traced_without_data():
    config = default_config(mean_color.MeanColor.name)
    config.data.update(dict(name="image_folder", dir="nowhere", image_size=16))
    config.optim.batch_size = config.eval.batch_size = 8
    info = DatasetInfo("image_folder", ("any",), (0.5,) * 3, (0.5,) * 3)
    programs = Programs.create(config, info, 100, sharding.make_mesh())
    state, batch = programs.state_spec(), programs.batch_spec(8)
    _, metrics = programs.train_step(state).trace(state, batch).out_info
    assert metrics.keys() >= {"loss", "lr", "grad_norm"}
    result = programs.eval_step.trace(state.eval_variables, batch).out_info
    assert result["predictions"]["rgb"].shape == (8, 3)
    example = programs.task.eval_example({"image": _png(), "name": "gray"})
    assert {k: (v.shape, v.dtype) for k, v in example.items()} == {
        k: (v.shape, v.dtype) for k, v in programs.task.example_spec().items()
    }


def _png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((20, 20, 3), 128, np.uint8)).save(file, "PNG")
    return file.getvalue()
