"""The first tensor that is not finite."""

import jax
import jax.numpy as jnp
import numpy as np

from cluenet_jax.train.diagnose import first_not_finite
from tests.helpers.models import random_images, random_variables, tiny_cluenet


def test_the_first_tensor_that_is_not_finite_is_named():
    model, x = tiny_cluenet(), random_images(1, 16, 16, 3)
    variables = random_variables(model, x)
    images = jnp.zeros((1, 16, 16, 3))

    def spoiled():
        return jax.tree.map(lambda p: p, variables)

    assert "outputs are finite" in first_not_finite(model, variables, images)
    assert "images are not finite" in first_not_finite(model, variables, images * np.nan)
    head = spoiled()
    head["params"]["head"]["linear"]["bias"] = jnp.array([0, jnp.nan, 0])
    assert "parameter head/linear/bias" in first_not_finite(model, head, images)
    block = spoiled()
    block["params"]["backbone"]["stage2_block0"]["norm1"]["scale"] = jnp.full(8, 3e38)
    assert "The output of backbone/stage2_block0/" in first_not_finite(model, block, images)
    other = {**variables, "batch_stats": {"mean": jnp.array([jnp.inf])}}
    assert "The batch_stats mean is not finite" in first_not_finite(model, other, images)
