"""Reading and writing files of PyTorch weights."""

import pathlib
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np

from cluenet_jax.errors import UserError

# Where training checkpoints keep the weights.
_INSIDE = ("model_state_dict", "state_dict", "model")
_PREFIX = "module."
# What mmpose 0.x calls its heads, and 1.x.
_RENAMED = ("keypoint_head.", "head.")


def read_state_dict(path: str) -> dict[str, np.ndarray]:
    """Reads the weights of a file.

    Args:
      path: `.pth`, `.pt` or `.bin` of PyTorch (needs torch), `.safetensors` or
        `.npz`. A training checkpoint that holds the weights under
        `model_state_dict`, `state_dict` or `model` is looked into, and the
        prefix `module.` of data parallel training is dropped; mmpose 0.x's
        `keypoint_head.` becomes `head.` as in 1.x.

    Returns:
      float32 arrays by tensor name; integers (BatchNorm's counts of batches) as int64.

    Raises:
      UserError: No such file, not of a known kind, corrupt, or a pickle that
        would run code.
    """
    file = pathlib.Path(path)
    if not file.is_file():
        raise UserError(f"{path}: there is no such file.")
    readers = {
        ".pth": _read_torch,
        ".pt": _read_torch,
        ".bin": _read_torch,
        ".safetensors": _read_safetensors,
        ".npz": _read_npz,
    }
    if file.suffix not in readers:
        raise UserError(f"{path}: expected a file of one of the kinds {', '.join(readers)}.")
    weights: Mapping[str, Any] = readers[file.suffix](file)
    for key in _INSIDE:
        if isinstance(weights.get(key), Mapping):
            weights = weights[key]
            break
    if all(name.startswith(_PREFIX) for name in weights):
        weights = {name.removeprefix(_PREFIX): value for name, value in weights.items()}
    old, new = _RENAMED
    weights = {
        f"{new}{name.removeprefix(old)}" if name.startswith(old) else name: value
        for name, value in weights.items()
    }
    unreadable = [name for name, value in weights.items() if not hasattr(value, "shape")]
    if unreadable or not weights:
        raise UserError(
            f"{path}: holds no weights. Expected tensors by name, bare or under "
            f"{', '.join(_INSIDE)}; found {', '.join(map(str, unreadable[:5])) or 'nothing'}."
        )
    return {name: _to_numpy(value) for name, value in weights.items()}


def write_safetensors(
    weights: Mapping[str, np.ndarray], path: str, texts: Mapping[str, str] | None = None
) -> None:
    """Writes arrays by name, for PyTorch's side to load, and texts by name in the header."""
    from safetensors.numpy import save_file

    save_file(dict(weights), path, metadata=dict(texts or {}))


def read_safetensors_texts(path: str) -> dict[str, str]:
    """The texts in the header of a safetensors file, by name; reads no array.

    Raises:
      UserError: No such file, or corrupt.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            return dict(file.metadata() or {})
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file.") from error
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error}).") from error


def _to_numpy(value: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray):
        # A torch tensor: NumPy knows no bfloat16, so it turns to float32 first.
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() else value).numpy()
    integer = np.issubdtype(value.dtype, np.integer)
    return np.asarray(value, np.int64 if integer else np.float32)


def _read_torch(file: pathlib.Path) -> Mapping[str, Any]:
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"{file}: reading it needs PyTorch, which is not installed: pip install torch "
            "(a CPU build will do)."
        ) from error
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{file}: refused. It is corrupt, or it holds more than tensors and would run code "
            "when read. If you trust it, save its state_dict alone and try again. "
            f"({str(error).splitlines()[0]})"
        ) from error
    except Exception as error:  # torch raises RuntimeError, EOFError and unreadable.
        raise UserError(f"{file}: not a readable PyTorch file ({error}).") from error
    if not isinstance(loaded, Mapping):
        raise UserError(f"{file}: holds a {type(loaded).__name__}, expected a state dict.")
    return loaded


def _read_safetensors(file: pathlib.Path) -> Mapping[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(file)
    except SafetensorError as error:
        raise UserError(f"{file}: not a readable safetensors file ({error}).") from error


def _read_npz(file: pathlib.Path) -> Mapping[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception as error:  # zipfile's errors, and ValueError for pickles.
        raise UserError(f"{file}: not a readable npz file ({error}).") from error
