"""Small models with random variables."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import cluenet_jax

# Of a CLUENet that compiles in half of the time.
SMALL_CLUENET = dict(dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), head_dim=8)
_CLUENET = {**SMALL_CLUENET, "depths": (1, 2, 1, 1)}
_CLUSTR = dict(dims=(8, 8, 16, 16), depths=(1, 2, 1, 1), num_heads=(1, 2, 2, 4))

# In the last stage, whose map is small, a single center.
_PEER = {**SMALL_CLUENET, "center_grids": ((2, 2), (2, 2), (2, 2), (1, 1))}


def tiny_cluenet(num_classes: int = 3, **options):
    return cluenet_jax.create_model("cluenet_nano", num_classes, **{**_CLUENET, **options})


def tiny_clustr(num_classes: int = 3, **options):
    return cluenet_jax.create_model("clustr_nano", num_classes, **{**_CLUSTR, **options})


def tiny_coc(num_classes: int = 3, **options):
    return cluenet_jax.create_model("coc_nano", num_classes, **{**_PEER, **options})


def tiny_fec(num_classes: int = 3, **options):
    return cluenet_jax.create_model("fec_nano", num_classes, **{**_PEER, **options})


def tiny_clusterformer(num_classes: int = 3, **options):
    return cluenet_jax.create_model("clusterformer_nano", num_classes, **{**_PEER, **options})


def random_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def random_variables(model, images):
    """Random weights of the right shapes, without compiling the model's own `init`."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if jnp.issubdtype(leaf.dtype, jnp.integer):
            return jnp.asarray(rng.integers(1, 100, leaf.shape), leaf.dtype)
        value = 0.3 * rng.standard_normal(leaf.shape, np.float32)
        # A variance is positive.
        return jnp.asarray(1 + abs(value) if path[-1].key == "var" else value)

    return jax.tree.map_with_path(draw, shapes)


@functools.cache
def _compiled(model, **options):
    return jax.jit(lambda v, x, rngs: model.apply(v, x, rngs=rngs, **options))


def run(model, variables, images, rngs=None, **options):
    """`model.apply`, compiled once for each model and its options."""
    return _compiled(model, **options)(variables, images, rngs)
