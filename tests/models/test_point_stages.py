"""What the peers' stages share: norms, scales of the branches, heads on top."""

import chex
import jax
import numpy as np
import pytest

import cluenet_jax
from tests.helpers.models import (
    random_images,
    random_variables,
    run,
    tiny_clusterformer,
    tiny_coc,
    tiny_fec,
)


@pytest.mark.parametrize("tiny", [tiny_coc, tiny_fec, tiny_clusterformer])
def test_a_head_of_all_levels_segments(tiny):
    model, x = tiny(head="semantic_fpn"), random_images(2, 32, 32, 3)
    logits = run(model, random_variables(model, x), x)
    chex.assert_shape(logits, (2, 16, 16, 3))
    chex.assert_tree_all_finite(logits)


def test_levels_are_normalized_over_the_image():
    backbone = cluenet_jax.create_backbone("coc_nano", dims=(8, 8, 16, 16), depths=(1, 1, 1, 1))
    x = random_images(2, 32, 32, 3)
    variables = random_variables(backbone, x)
    for i, level in enumerate(run(backbone, variables, x).levels):
        norm = variables["params"][f"stage{i + 1}_norm"]
        standard = (level - norm["bias"]) / norm["scale"]
        np.testing.assert_allclose(standard.mean((1, 2, 3)), 0, atol=1e-3)
        np.testing.assert_allclose(standard.std((1, 2, 3)), 1, rtol=1e-2)


def test_branches_begin_next_to_nothing():
    backbone = tiny_coc().backbone
    params = jax.jit(backbone.init)(jax.random.key(0), random_images(1, 16, 16, 3))["params"]
    for name in ("scale1", "scale2"):
        np.testing.assert_array_equal(params["stage1_block0"][name], np.full(8, 1e-5, np.float32))
