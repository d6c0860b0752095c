"""Recorded cases of Context Cluster, FEC and ClusterFormer (`tests/data/peers/`).

Inputs and parameters are not stored: they are draws by a rule from a seed. Of large arrays, such
as gradients, only `kept` entries are.
"""

import json
import pathlib
import zlib

import chex
import jax
import jax.numpy as jnp
import numpy as np

import cluenet_jax
from cluenet_jax.weights import from_torch, to_torch
from cluenet_jax.weights.torch import name_table
from tests.helpers.backends import selected
from tests.helpers.golden import relative_error
from tests.helpers.models import random_images, random_variables, run

DATA = pathlib.Path(__file__).parent.parent / "data" / "peers"
NUM_CLASSES = 10
_SIZES = dict(
    dims=(16, 32, 48, 64),
    depths=(2, 2, 2, 1),
    num_heads=(1, 2, 3, 4),
    head_dim=8,
    mlp_ratios=(4, 4, 2, 2),
)
_FINE, _COARSE = (3, 1, 1), (4, 4, 0)


def _squares(*sides: int) -> tuple:
    return tuple((side, side) for side in sides)


_FOLDED = dict(center_grids=_squares(2, 2, 2, 2), folds=_squares(8, 4, 2, 1))
_GLOBAL = dict(center_grids=_squares(4, 4, 2, 2), folds=_squares(1, 1, 1, 1))
_WINDOWS = dict(center_grids=_squares(5, 5, 5, 5), folds=_squares(8, 4, 2, 1))
# What the cases differ in.
CASES = {
    "coc_nano_32": dict(_FOLDED, patch=_FINE),
    "coc_nano_32_count": dict(_FOLDED, patch=_FINE, denominator="count"),
    "coc_nano_224": dict(_FOLDED, patch=_COARSE),
    "coc_nano_plain_64x48": dict(
        center_grids=_squares(4, 4, 2, 1), folds=_squares(1, 1, 1, 1), patch=_COARSE
    ),
    "coc_nano_odd_64x48": dict(
        center_grids=((2, 2), (2, 1), (2, 3), (1, 2)),
        folds=((4, 3), (2, 3), (2, 1), (1, 1)),
        patch=_COARSE,
    ),
    "fec_nano_32": dict(_GLOBAL, patch=_FINE),
    "fec_nano_40x48": dict(_GLOBAL, patch=_FINE),
    "fec_nano_224": dict(_GLOBAL, patch=_COARSE),
    "fec_nano_fold_96x64": dict(
        center_grids=_squares(3, 3, 2, 2), folds=_squares(2, 2, 1, 1), patch=_COARSE
    ),
    "clusterformer_nano_32": dict(_WINDOWS, patch=_FINE, unused_map=False),
    "clusterformer_nano_224": dict(_WINDOWS, patch=(4, 4, 1), unused_map=True),
    "coc_nano_backbone_32": dict(_FOLDED, patch=_FINE),
    "fec_nano_backbone_32": dict(_GLOBAL, patch=_FINE),
}
# The others are there for their logits and assignments.
WITH_GRADIENTS = (
    "coc_nano_32",
    "coc_nano_odd_64x48",
    "fec_nano_32",
    "fec_nano_fold_96x64",
    "clusterformer_nano_32",
)


def options(case: str) -> dict:
    """Options of the model of a case; its variant is the family's nano."""
    return {**_SIZES, **CASES[case]}


def load_case(name: str, folder: pathlib.Path = DATA) -> dict[str, np.ndarray]:
    """The arrays of a case by name, the images `[B, H, W, 3]` as `input`."""
    with np.load(folder / f"{name}.npz") as file:
        case = dict(file)
    rng = np.random.default_rng(int(case["seed"]))
    case["input"] = rng.standard_normal(case["shape"]).astype(np.float32)
    return case


def parameter(name: str, shape: tuple[int, ...], seed: int, family: str) -> np.ndarray:
    """The parameter of a PyTorch name, by the rule of the recorded cases."""
    draw = np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(shape)
    draw = draw.astype(np.float32)
    if name.endswith("sim_alpha"):
        return np.float32(2) + np.float32(0.2) * draw
    if name.endswith("sim_beta"):
        return np.float32(0.3) * draw
    if "layer_scale" in name:
        return np.float32(0.5) + np.float32(0.1) * draw
    if "norm" in name.split(".")[-2] and name.endswith("weight"):
        return np.float32(1) + np.float32(0.2) * draw
    if name.endswith("bias"):
        return np.float32(0.1) * draw
    draw = draw / np.float32(np.sqrt(np.prod(shape[1:])))
    # Else all centers of a ClusterFormer would be equal to rounding.
    return 4 * draw if family == "clusterformer" and name.endswith("conv_v.weight") else draw


def recorded_variables(model, name: str, case: dict) -> dict:
    """The variables of a case."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), case["input"])
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    family, seed = name.split("_")[0], int(case["param_seed"])
    weights = {
        key: parameter(key, value.shape, seed, family)
        for key, value in to_torch(zeros, model).items()
    }
    if name == "coc_nano_odd_64x48":
        weights["network.2.0.token_mixer.sim_alpha"] = np.float32([-1.5])
    return from_torch(weights, model)


def recorded_model(name: str, case: dict):
    """The model of a case and its variables."""
    family = name.split("_")[0]
    model = cluenet_jax.create_model(f"{family}_nano", NUM_CLASSES, **options(name))
    return model, recorded_variables(model, name, case)


def kept(array: np.ndarray) -> np.ndarray:
    """At most 100 entries, evenly spaced."""
    flat = np.ravel(array)
    return flat[:: -(-flat.size // 100)]


def run_case(name: str, backend: str) -> tuple[dict, dict]:
    """A case, and what ours makes of it under the same keys; gradients where it has some."""
    case = load_case(name)
    model, variables = recorded_model(name, case)
    frozen = {key: tree for key, tree in variables.items() if key != "params"}

    def forward(params):
        (logits, features), state = model.apply(
            {"params": params, **frozen},
            case["input"],
            method=_logits_and_features,
            capture_intermediates=lambda module, _: module.name in ("assignment", "mixer"),
            mutable=["intermediates"],
        )
        return jnp.mean(logits**2), (logits, features, state["intermediates"]["backbone"])

    with_gradients = name in WITH_GRADIENTS
    run = jax.value_and_grad(forward, has_aux=True) if with_gradients else forward
    with selected(backend):
        results = jax.jit(run)(variables["params"])
    (loss, (logits, features, blocks)), grads = results if with_gradients else (results, None)
    ours = {"loss": loss, "logits": logits}
    for i, stage_maps in enumerate(features.maps):
        if f"pool{i + 1}/assignment" in case:
            ours[f"pool{i + 1}/assignment"] = stage_maps.parents
    for key, mixer in blocks.items():
        stage, block = key.split("_")
        ours[f"{stage}/{block}/assignment"] = _indices(name, int(stage[-1]), mixer["mixer"])
    if with_gradients:
        zeros = jax.tree.map(jnp.zeros_like, frozen)
        for key, grad in to_torch({"params": grads, **zeros}, model).items():
            ours[f"grad/{key}"] = kept(grad)
    return case, ours


def _logits_and_features(model, images):
    features = model.features(images)
    return model.decode(features.levels), features


def _indices(name: str, stage: int, mixer: dict) -> np.ndarray:
    """The centers within folds, in the recorded order."""
    if name.startswith("clusterformer"):
        return mixer["assignment"]["__call__"][0][1]
    _, clusters, _ = mixer["__call__"][0]
    rows, columns = CASES[name]["center_grids"][stage - 1]
    return np.asarray(clusters) % (rows * columns)


def gradient_errors(case: dict, ours: dict) -> dict[str, float]:
    """Of each parameter the largest difference over the largest entry.

    Tensors next to zero are judged by a part of the largest gradient.
    """
    theirs = {key: grad for key, grad in case.items() if key.startswith("grad/")}
    floor = 1e-4 * max(np.abs(grad).max() for grad in theirs.values())
    assert theirs.keys() == {key for key in ours if key.startswith("grad/")}
    return {
        key: np.abs(ours[key] - grad).max() / max(np.abs(grad).max(), floor)
        for key, grad in theirs.items()
    }


def check_case(name: str, backend: str) -> dict[str, float]:
    """Asserts that logits and assignments are the recorded ones; returns `gradient_errors`."""
    case, ours = run_case(name, backend)
    for key in ("logits", "loss"):
        assert relative_error(ours[key], case[key]) < 3e-6
    names = {key for key in case if key.endswith("assignment")}
    assert names == {key for key in ours if key.endswith("assignment")}
    for key in names:
        np.testing.assert_array_equal(np.ravel(ours[key]), np.ravel(case[key]), key)
    return gradient_errors(case, ours) if name in WITH_GRADIENTS else {}


def check_levels(name: str) -> None:
    """Asserts that the levels of a backbone below a head of all levels are the recorded ones."""
    case, family = load_case(name), name.split("_")[0]
    model = cluenet_jax.create_model(
        f"{family}_nano", NUM_CLASSES, level_norms=True, **options(name)
    )
    variables = recorded_variables(model, name, case)
    levels = run(model, variables, case["input"], method="features").levels
    for i, level in enumerate(levels):
        ours = kept(np.asarray(level).transpose(0, 3, 1, 2))
        assert relative_error(ours, case[f"backbone/output{i + 1}"]) < 3e-6


def count_and_checksum(name: str) -> tuple[int, int]:
    """How many parameters a variant has, and a checksum of its tensors' PyTorch names and shapes.

    The published code's are in a table of the same form.
    """
    shapes = {
        entry.torch: list(entry.kind.to_torch(np.broadcast_to(0, spec.shape)).shape)
        for entry, spec in name_table(cluenet_jax.create_model(name))
    }
    count = sum(int(np.prod(shape)) for shape in shapes.values())
    return count, zlib.crc32(json.dumps(shapes, sort_keys=True).encode())


def check_that_it_trains(model, cannot: str = "never") -> None:
    """Asserts that all parameters have a gradient, but those whose name ends with `cannot`."""
    x = random_images(2, 30, 34, 3)
    variables = random_variables(model, x)
    frozen = {key: tree for key, tree in variables.items() if key != "params"}

    def loss(params):
        rngs = {"dropout": jax.random.key(1)}
        logits = model.apply({"params": params, **frozen}, x, train=True, rngs=rngs)
        chex.assert_shape(logits, (2, 3))
        chex.assert_type(logits, jnp.float32)
        return (logits**2).sum()

    grads = jax.jit(jax.grad(loss))(variables["params"])
    chex.assert_tree_all_finite(grads)
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        assert name.endswith(cannot) or np.abs(grad).max() > 0, name


def check_size(model, size: tuple[int, int]) -> None:
    """Asserts that images of a size give finite logits and maps of half the sides, rounded up."""
    variables = random_variables(model, random_images(1, 32, 32, 3))
    x = random_images(2, *size, 3)
    features = run(model, variables, x, method="features")
    chex.assert_tree_all_finite(run(model, variables, features.levels, method="decode"))
    height, width = (-(-side // model.backbone.strides[0]) for side in size)
    for stage_maps in features.maps:
        batch, _, *grid = stage_maps.clusters.shape
        assert batch == 2 and grid == [height, width]
        assert stage_maps.weights.shape == stage_maps.clusters.shape
        height, width = -(-height // 2), -(-width // 2)
        if stage_maps.parents is not None:
            assert 0 <= stage_maps.parents.min() <= stage_maps.parents.max() < height * width
