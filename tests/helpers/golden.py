"""Recorded cases of the reference systems (`tests/data/`), and how to compare with them.

Inputs are draws of `numpy.random.default_rng`, stored as seed and shape;
gradients keep 16 bits of mantissa (8e-6 relative); cases share the parameters
of the first one where they are equal.
"""

import pathlib

import numpy as np

DATA = pathlib.Path(__file__).parent.parent / "data"


def load_case(name: str, parameters_of: str) -> dict:
    """The arrays of a case; `param` and `grad` are state dicts, `input` the images."""
    with np.load(DATA / f"{name}.npz") as file:
        arrays = dict(file)
    with np.load(DATA / f"{parameters_of}.npz") as file:
        shared = {k: v for k, v in file.items() if k.startswith("param/")}
    arrays = {**shared, **arrays}
    case = {k: v for k, v in arrays.items() if not k.startswith(("param/", "grad/"))}
    for part in ("param", "grad"):
        case[part] = {
            k.removeprefix(f"{part}/"): v for k, v in arrays.items() if k.startswith(f"{part}/")
        }
    rng = np.random.default_rng(int(case.pop("seed")))
    case["input"] = rng.standard_normal(case.pop("shape")).astype(np.float32)
    return case


def relative_error(ours, theirs) -> float:
    """Largest difference over the largest value, over 1 where all are 0."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / (np.abs(theirs).max() or 1.0))
