"""Trained weights in the package: MODEL.DATASET.safetensors, and a card of each, MODEL.DATASET.md.

`python -m benchmarks.pretrained` writes both from the workdir of a run.
"""

import pathlib

FOLDER = pathlib.Path(__file__).parent
# What tools use that are given no checkpoint.
DEFAULT = "cluenet_nano.cifar100"
_SUFFIX = ".safetensors"


def list_pretrained() -> list[str]:
    """Names of the weights in the package, MODEL.DATASET."""
    return sorted(file.name.removesuffix(_SUFFIX) for file in FOLDER.glob(f"*{_SUFFIX}"))


def pretrained_file(name: str) -> pathlib.Path:
    """The file of weights, one of `list_pretrained()` or to be written."""
    return FOLDER / f"{name}{_SUFFIX}"


def card_file(name: str) -> pathlib.Path:
    """The card of weights: their data, recipe and metrics."""
    return FOLDER / f"{name}.md"
