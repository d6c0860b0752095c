"""The one table that names each parameter on both sides, and says how its axes turn.

PyTorch keeps `[out, in]` matrices and `[out, in, height, width]` kernels, Flax
`[in, out]` and `[height, width, in, out]`. Every entry of the table is a pair of
names and the kind of the parameter; a kind is a pair of exact inverses.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

from cluenet_jax.models.cluenet import CLUENet
from cluenet_jax.models.clustr import ClusTR


class Kind(NamedTuple):
    """How the axes of a parameter turn, from PyTorch to Flax and back."""

    to_flax: Callable[[np.ndarray], np.ndarray]
    to_torch: Callable[[np.ndarray], np.ndarray]


def _same(a: np.ndarray) -> np.ndarray:
    return a


SAME = Kind(_same, _same)
# [out, in] <-> [in, out]
LINEAR = Kind(np.transpose, np.transpose)
# [out, in, 1, 1] <-> [in, out]
CONV1X1 = Kind(lambda a: a[:, :, 0, 0].T, lambda a: a.T[:, :, None, None])
# [out, in, height, width] <-> [height, width, in, out]
CONV = Kind(lambda a: a.transpose(2, 3, 1, 0), lambda a: a.transpose(3, 2, 0, 1))
# [channels, 1, height, width] <-> [height, width, channels]
DEPTHWISE = Kind(lambda a: a[:, 0].transpose(1, 2, 0), lambda a: a.transpose(2, 0, 1)[:, None])
# [1] <-> []
SCALAR = Kind(lambda a: a[0], lambda a: a[None])
# [heads, out, in] <-> [heads, in, out]
PER_HEAD = Kind(lambda a: a.transpose(0, 2, 1), lambda a: a.transpose(0, 2, 1))
# [heads, 1, in] <-> [heads, in]
PER_HEAD_ROW = Kind(lambda a: a[:, 0], lambda a: a[:, None])
# [heads, 1] <-> [heads]
PER_HEAD_SCALAR = Kind(lambda a: a[:, 0], lambda a: a[:, None])


class Entry(NamedTuple):
    """One parameter: its PyTorch name, its Flax path, its kind."""

    torch: str
    flax: str
    kind: Kind


def _layer(torch: str, flax: str, kind: Kind) -> Iterator[Entry]:
    yield Entry(f"{torch}.weight", f"{flax}/kernel", kind)
    yield Entry(f"{torch}.bias", f"{flax}/bias", SAME)


def _norm(torch: str, flax: str) -> Iterator[Entry]:
    yield Entry(f"{torch}.weight", f"{flax}/scale", SAME)
    yield Entry(f"{torch}.bias", f"{flax}/bias", SAME)


def _cluenet(model: CLUENet) -> Iterator[Entry]:
    yield from _layer("patch_embed.proj", "embed/conv", CONV)
    yield from _norm("patch_embed.norm", "embed/norm")
    yield from _layer("pos_embed.proj.0", "embed/position", DEPTHWISE)
    for stage, depth in enumerate(model.depths):
        for block in range(depth):
            torch, flax = f"network.{2 * stage}.blocks.{block}", f"stage{stage + 1}_block{block}"
            yield from _norm(f"{torch}.norm1", f"{flax}/norm1")
            own_assignment = block == 0 or not model.share_assignment
            yield from _cluenet_attention(
                model, f"{torch}.token_mixer", f"{flax}/attention", own_assignment
            )
            yield from _norm(f"{torch}.norm2", f"{flax}/norm2")
            yield from _layer(f"{torch}.mlp.fc1", f"{flax}/mlp/expand", LINEAR)
            yield from _layer(f"{torch}.mlp.dwconv.dwconv", f"{flax}/mlp/depthwise", DEPTHWISE)
            yield from _layer(f"{torch}.mlp.fc2", f"{flax}/mlp/project", LINEAR)
        if stage < 3:
            torch, flax = f"network.{2 * stage + 1}", f"pool{stage + 1}"
            yield from _norm(f"{torch}.norm1", f"{flax}/norm")
            if model.norm_after_pooling:
                yield from _norm(f"{torch}.norm2", f"{flax}/norm_after")
            yield from _layer(f"{torch}.conv_f", f"{flax}/value", CONV1X1)
            yield from _layer(f"{torch}.conv_v.0", f"{flax}/expand", CONV1X1)
            yield from _layer(f"{torch}.conv_v.2", f"{flax}/project", CONV1X1)
            yield from _layer(f"{torch}.conv_skip", f"{flax}/skip", CONV)
    yield from _norm("norm", "norm")
    yield from _layer("head", "head", LINEAR)


def _cluenet_attention(
    model: CLUENet, torch: str, flax: str, own_assignment: bool
) -> Iterator[Entry]:
    if model.learn_temperature:
        yield Entry(f"{torch}.attn_alpha", f"{flax}/alpha", SAME)
    if own_assignment:
        yield Entry(f"{torch}.sim_alpha", f"{flax}/scale", SCALAR)
        yield Entry(f"{torch}.sim_beta", f"{flax}/shift", SCALAR)
        yield from _layer(f"{torch}.q", f"{flax}/query", LINEAR)
    yield from _layer(f"{torch}.k", f"{flax}/key", CONV1X1)
    yield from _layer(f"{torch}.v", f"{flax}/value", CONV1X1)
    yield from _layer(f"{torch}.proj", f"{flax}/out", CONV1X1)
    if model.gate:
        yield Entry(f"{torch}.gate.fc1.weight", f"{flax}/gate/w1", PER_HEAD)
        yield Entry(f"{torch}.gate.fc1.bias", f"{flax}/gate/b1", SAME)
        yield Entry(f"{torch}.gate.fc2.weight", f"{flax}/gate/w2", PER_HEAD_ROW)
        yield Entry(f"{torch}.gate.fc2.bias", f"{flax}/gate/b2", PER_HEAD_SCALAR)


def _clustr(model: ClusTR) -> Iterator[Entry]:
    for stage, depth in enumerate(model.depths):
        number, name = stage + 1, f"stage{stage + 1}"
        yield from _layer(f"patch_embed{number}.proj", f"{name}_patch", CONV)
        yield from _norm(f"patch_embed{number}.norm", f"{name}_patch_norm")
        for block in range(depth):
            torch, flax = f"block{number}.{block}", f"{name}_block{block}"
            yield from _norm(f"{torch}.norm1", f"{flax}/norm1")
            yield from _layer(f"{torch}.attn.q", f"{flax}/attention/query", LINEAR)
            if model.reductions[stage] == 1:
                yield from _layer(f"{torch}.attn.kv", f"{flax}/attention/key_value", LINEAR)
            else:
                yield from _layer(f"{torch}.attn.weight_layer", f"{flax}/attention/weight", LINEAR)
                for i in range(1, len(model.cluster_scales) + 1):
                    yield from _layer(
                        f"{torch}.attn.kv{i}", f"{flax}/attention/key_value{i}", LINEAR
                    )
            yield from _layer(f"{torch}.attn.proj", f"{flax}/attention/out", LINEAR)
            yield from _norm(f"{torch}.norm2", f"{flax}/norm2")
            yield from _layer(f"{torch}.mlp.fc1", f"{flax}/mlp/expand", LINEAR)
            yield from _layer(f"{torch}.mlp.dwconv.dwconv", f"{flax}/mlp/depthwise", DEPTHWISE)
            yield from _layer(f"{torch}.mlp.fc2", f"{flax}/mlp/project", LINEAR)
        yield from _norm(f"norm{number}", f"{name}_norm")
    yield from _layer("head", "head", LINEAR)


_TABLES: dict[type, Callable[[Any], Iterator[Entry]]] = {CLUENet: _cluenet, ClusTR: _clustr}


def name_table(model: nn.Module) -> list[Entry]:
    """The names of all parameters of `model`.

    Raises:
      ValueError: The reference has no such network (a backbone, or another
        cluster pooling than the published one).
    """
    entries = list(_TABLES[type(model)](model))
    known, present = {e.flax for e in entries}, set(_flax_shapes(model))
    if known != present:
        raise ValueError(
            "The PyTorch reference has no counterpart of this configuration; parameters it "
            f"lacks or has besides: {', '.join(sorted(known ^ present))}."
        )
    return entries


def from_torch(state_dict: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """Turns a PyTorch state dict into the variables of `model`.

    Args:
      state_dict: The reference's tensor names and arrays (anything NumPy reads).
      model: What `create_model` returned, of the same sizes.

    Returns:
      `{"params": ...}`, float32 JAX arrays, for `model.apply`.

    Raises:
      ValueError: Lists all missing, unexpected and misshapen tensors.
    """
    entries, shapes = name_table(model), _flax_shapes(model)
    unexpected = set(state_dict) - {entry.torch for entry in entries}
    problems = [f"unexpected: {name}" for name in sorted(unexpected)]
    params = {}
    for entry in entries:
        expected = entry.kind.to_torch(np.empty(shapes[entry.flax])).shape
        if entry.torch not in state_dict:
            problems.append(f"missing: {entry.torch} {list(expected)}")
            continue
        array = np.asarray(state_dict[entry.torch], np.float32)
        if array.shape != expected:
            problems.append(
                f"misshapen: {entry.torch} is {list(array.shape)}, expected {list(expected)}"
            )
            continue
        params[tuple(entry.flax.split("/"))] = jnp.asarray(entry.kind.to_flax(array))
    if problems:
        raise ValueError(
            f"The weights do not fit the model, {len(problems)} tensors differ:\n  "
            + "\n  ".join(problems)
        )
    return {"params": traverse_util.unflatten_dict(params)}


def to_torch(variables: Mapping[str, Any], model: nn.Module) -> dict[str, np.ndarray]:
    """The exact inverse of `from_torch`: float32 NumPy arrays under the reference's names."""
    flat = traverse_util.flatten_dict(variables["params"], sep="/")
    return {
        entry.torch: np.array(entry.kind.to_torch(np.asarray(flat[entry.flax])), order="C")
        for entry in name_table(model)
    }


def _flax_shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    flat = traverse_util.flatten_dict(variables["params"], sep="/")
    return {path: leaf.shape for path, leaf in flat.items()}
