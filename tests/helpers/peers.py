"""Recorded cases of Context Cluster, FEC and ClusterFormer (`tests/data/peers/`).

Inputs and parameters are not stored: they are draws by a rule from a seed. Of each gradient at
most `KEPT` entries are, evenly spaced from the first, and its largest entry by absolute value.
"""

import pathlib
import zlib

import jax
import numpy as np

import cluenet_jax
from cluenet_jax.weights import from_torch, to_torch

DATA = pathlib.Path(__file__).parent.parent / "data" / "peers"
KEPT = 100
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


def mixer_outputs(intermediates: dict, stage: int, block: int) -> tuple:
    """What a block's mixer returned, of `model.apply(..., capture_intermediates=...)`."""
    return intermediates["backbone"][f"stage{stage}_block{block}"]["mixer"]["__call__"][0]
