"""Recorded cases of dense prediction: weights and inputs by a rule, outputs of `tests/data/dense/`.

A tensor depends on the case's seed, its PyTorch name and its shape alone, so nothing but seeds is
stored. `check/weights` and `check/inputs` tell a wrong rule from a wrong model.
"""

import functools
import pathlib
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from cluenet_jax import ops
from cluenet_jax.weights import from_torch, to_torch
from cluenet_jax.weights.torch import name_table

_DATA = pathlib.Path(__file__).parent.parent / "data" / "dense"
# What a standard normal number is multiplied with and added to, by the last part of the name.
_NORMAL = {
    "running_mean": (0.1, 0.0),
    "attn_alpha": (0.1, np.log(2.13) - 0.6),
    "sim_alpha": (0.2, 2.0),
    "sim_beta": (0.3, 0.0),
    "bias": (0.1, 0.0),
}


def load_dense(name: str) -> dict[str, np.ndarray]:
    """The arrays of a case."""
    with np.load(_DATA / f"{name}.npz") as file:
        return dict(file)


def part(case: dict, prefix: str) -> dict[str, np.ndarray]:
    """The arrays below a prefix, by the other part of their names."""
    return {k.removeprefix(prefix): v for k, v in case.items() if k.startswith(prefix)}


def normal(shape, seed) -> np.ndarray:
    """Standard normal float32 of a seed, or of several numbers."""
    return np.random.default_rng(seed).standard_normal(tuple(shape)).astype(np.float32)


def levels_of(case: dict) -> tuple[np.ndarray, ...]:
    """The levels `[B, H, W, C]` that a head was given."""
    seed = int(case["seed"])
    levels = tuple(normal(shape, [seed, i]) for i, shape in enumerate(case["levels"]))
    check_sum(levels, case["check/inputs"])
    return levels


def images_of(case: dict) -> np.ndarray:
    """The images `[B, H, W, 3]` that a model was given."""
    images = normal((*case["labels"].shape, 3), int(case["seed"]))
    check_sum([images], case["check/inputs"])
    return images


def variables_of(case: dict, model) -> dict:
    """The recorded weights of a model or of a head."""
    scale = tuple((name, float(factor)) for name, factor in part(case, "scale/").items())
    weights, variables = _weights(int(case["seed"]), model, scale)
    check_sum(weights.values(), case["check/weights"])
    return variables


@functools.cache
def _weights(seed: int, model, scale: tuple[tuple[str, float], ...]) -> tuple[dict, dict]:
    """The tensors of a model; those named by `scale` are multiplied, for sure detections."""
    weights = {}
    for entry, spec in name_table(model):
        shape = entry.kind.to_torch(np.empty(spec.shape)).shape
        weights[entry.torch] = tensor(entry.torch, shape, seed)
    for name, factor in scale:
        weights[name] = (weights[name].astype(np.float64) * factor).astype(np.float32)
    return weights, from_torch(weights, model)


def tensor(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """A tensor by the rule: drawn and computed in float64, rounded once."""
    kind = name.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    draw = np.asarray(_generator(name, seed).standard_normal(shape))
    if kind == "running_var":
        value = 1 + 0.2 * np.abs(draw)
    elif kind in _NORMAL:
        factor, shift = _NORMAL[kind]
        value = shift + factor * draw
    elif len(shape) == 1:
        value = 1 + 0.2 * draw
    else:
        value = draw / np.sqrt(np.prod(shape[1:]))
    return np.asarray(value, np.float32)


def probe(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """The direction along which a gradient was recorded, float64."""
    return _generator(name, seed + 1).standard_normal(shape)


def _generator(name: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def check_sum(arrays, expected) -> None:
    total = sum(np.asarray(array, np.float64).sum() for array in arrays)
    assert abs(total - expected) < 1e-3, "the rule does not give what was recorded with"


def pixel_loss(logits: jax.Array, labels: np.ndarray) -> jax.Array:
    """mmsegmentation's: of resized logits, over all pixels, of which those of 255 count as 0."""
    log_likelihood = jax.nn.log_softmax(ops.resize_bilinear(logits, labels.shape[1:3]))
    chosen = jax.nn.one_hot(labels, logits.shape[-1])  # 255 is no class: zeros.
    return -jnp.sum(chosen * log_likelihood) / labels.size


def gradients_to_torch(variables: dict, grads: dict, model) -> dict[str, np.ndarray]:
    """Gradients of the parameters by their PyTorch names."""
    named = to_torch({**variables, "params": grads}, model)
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    return {k: v for k, v in named.items() if not k.endswith(statistics)}
