"""The house rules: what may import what, configs that say what runs, every setting read."""

import ast
import importlib
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from cluenet_jax.config import check_config, default_config, model_from_config

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "cluenet_jax"
MODULES = sorted(PACKAGE.rglob("*.py"))
CONFIGS = sorted((ROOT / "configs").glob("*.py"))

# A part of the package may import the parts listed, errors and version always.
MAY_IMPORT = {
    "ops": {"ops"},
    "models": {"ops", "models"},
    "data": {"data"},
    "config": {"data", "models"},
    "weights": {"models", "weights"},
    "explain": {"explain", "models", "ops"},
    "checkpoints": {"checkpoints"},
    "train": {"train", "checkpoints", "config", "data", "models", "ops", "weights"},
}


def imported(path: pathlib.Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def part(path: pathlib.Path) -> str:
    inside = path.relative_to(PACKAGE)
    return inside.parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path):
    names = imported(path)
    assert not any(
        name.split(".")[0] in ("main", "tests", "configs", "benchmarks") for name in names
    )
    assert not any(name.startswith("jax._src") for name in names)
    parts = {name.split(".")[1] for name in names if name.startswith("cluenet_jax.")}
    allowed = MAY_IMPORT.get(part(path))
    if allowed is not None:
        assert parts <= allowed | {"errors", "version", "ops" if part(path) == "models" else ""}
    if part(path) == "ops":
        assert not any(
            name.split(".")[0] in ("flax", "ml_collections", "numpy.random") for name in names
        )


def test_the_package_imports_nothing_heavy():
    heavy = "tensorflow torch tensorflow_datasets matplotlib sklearn grain orbax".split()
    code = f"import sys, cluenet_jax; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert found.stdout.strip() == "[]", found


def flat_keys(config: ConfigDict, prefix: str = "") -> list[str]:
    keys = []
    for key, value in config.items():
        keys += flat_keys(value, f"{prefix}{key}.") if isinstance(value, ConfigDict) else [key]
    return keys


def test_every_setting_is_read_somewhere():
    code = "\n".join(p.read_text() for p in MODULES if p.name != "config.py")
    fields = "".join((PACKAGE / "models" / f"{n}.py").read_text() for n in ("cluenet", "clustr"))
    for key in flat_keys(default_config()):
        assert re.search(rf"\.{key}\b", code) or re.search(rf"^    {key}: ", fields, re.M), key


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_recipes_can_be_run(path):
    module = importlib.import_module(f"configs.{path.stem}")
    assert f"python main.py --config=configs/{path.name}" in module.__doc__
    config = module.get_config()
    assert flat_keys(config) == flat_keys(default_config()), "a recipe declares no field"
    check_config(config, device_count=8)
    model = model_from_config(config, num_classes=7)
    size = config.data.image_size
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    logits = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x)[0], images)
    assert logits.shape == (2, 7)
