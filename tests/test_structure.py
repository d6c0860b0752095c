"""The house rules: what may import what, recipes that run, words that stay away, sizes."""

import ast
import importlib
import io
import itertools
import pathlib
import re
import statistics
import subprocess
import sys
import tokenize

import jax
import jax.numpy as jnp
import pytest

from cluenet_jax.check import check_config
from cluenet_jax.cli.main import VERBS
from cluenet_jax.config import default_config
from cluenet_jax.models.settings import model_from_config
from tests.helpers.settings import flat_keys

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "cluenet_jax"
MODULES = sorted(PACKAGE.rglob("*.py"))
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.py"))
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]

# A part of the package may import itself and the parts listed; errors and version always.
MAY_IMPORT = {
    "ops": set(),
    "models": {"ops", "settings"},
    "data": {"settings"},
    "metrics": set(),
    "settings": set(),
    "weights": {"models"},
    "explain": {"models", "ops"},
    "visualization": {"explain"},
    "tasks": {"ops", "models", "data", "metrics", "settings"},
    "config": {"models", "tasks"},
    "pretrained": set(),
    "checkpoints": {
        *("config", "data", "models", "ops", "pretrained", "settings", "tasks", "weights")
    },
    "export": {"checkpoints", "ops"},
    "macs": {"ops"},
    "progress": set(),
    "check": {"checkpoints", "data", "models", "settings", "tasks", "train"},
    "evaluation": {"check", "checkpoints", "config", "data", "ops", "progress", "tasks", "train"},
    "train": {
        *("check", "checkpoints", "config", "data", "evaluation", "ops", "progress", "settings"),
        "tasks",
    },
    "compile": {"check", "data", "train"},
}
# Parts that work for any task.
ANY_TASK = [
    path
    for path in MODULES
    if path.relative_to(PACKAGE).parts[0] in ("train", "checkpoints", "compile", "cli")
    or path == PACKAGE / "data" / "loader.py"
]
# Words of one task, which such parts do not mention.
TASK_WORDS = re.compile(r"\b(class(es)?|class_names?|labels?|top1|top_k)\b", re.I)
# The old words, in identifiers, messages, docstrings, comments and documents.
DENIED = re.compile(
    r"""\b(pictures?|centres?|neighbours?|colours?|grey|normali[s]e\w*|optimi[s]e\w*|initiali[s]e\w*
    |broken|damaged?|set_aside|go(es|ing)?\ on|multiply-adds?|map_scores|on_device|test_pictures
    |anew|mend(ed|s)?|for\ want\ of|by\ intent|shall\ live|tested_params|init_from|lr_per|final_lr
    |return_maps|joined?_hosts|serialised?)\b""",
    re.X | re.I,
)
# Names of variables that say nothing.
DENIED_NAMES = {"about", "rest", "some", "many", "others", "one", "found", "bad", "words", "told"}


def imported(path: pathlib.Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def part(path: pathlib.Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def relative(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_imports_point_one_way(path):
    names = imported(path)
    outside = ("main", "tests", "configs", "benchmarks")
    assert not any(name.split(".")[0] in outside for name in names)
    assert not any(name.startswith("jax._src") for name in names)
    parts = {name.split(".")[1] for name in names if name.startswith("cluenet_jax.")}
    if path.name != "__init__.py" or path.parent != PACKAGE:
        allowed = MAY_IMPORT.get(part(path))
        if allowed is not None:
            assert parts <= allowed | {part(path), "errors", "version"}
    if part(path) == "ops":
        roots = {name.split(".")[0] for name in names}
        assert not roots & {"flax", "ml_collections"} and "numpy.random" not in names
    tools = {name.split(".")[2] for name in names if name.startswith("cluenet_jax.cli.")}
    assert not tools & VERBS.keys(), "scripts never import scripts"


@pytest.mark.parametrize("path", ANY_TASK, ids=relative)
def test_what_serves_any_task_knows_none(path):
    tasks = {name for name in imported(path) if name.startswith("cluenet_jax.tasks.")}
    known = {"base", "TASKS", "create_task"}
    assert {name.split(".")[2] for name in tasks} <= known
    tokens = [*tokenize.generate_tokens(io.StringIO(path.read_text()).readline)]
    for token, following in itertools.pairwise(tokens):
        # `class` is Python's word, and libraries name arguments as they like.
        if token.string != "class" and following.string != "=":
            assert not TASK_WORDS.search(token.string), token


def test_the_package_imports_nothing_heavy():
    heavy = "tensorflow torch tensorflow_datasets matplotlib sklearn grain orbax".split()
    code = f"import sys, cluenet_jax; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done


def test_every_setting_is_read_somewhere():
    code = "\n".join(p.read_text() for p in MODULES if p.name != "config.py")
    for key in flat_keys(default_config()):
        if key == "num_examples":
            continue
        name = key.split(".")[-1]
        assert re.search(rf"\.{name}\b", code) or re.search(rf"^    {name}: ", code, re.M), key


# Measured so on two CPU cores; more devices need another batch.
FOUR_IMAGES_A_STEP = {"nuclei", "coco_overfit"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_recipes_can_be_run(path):
    module = importlib.import_module(f"configs.{path.stem}")
    assert f"python main.py --config=configs/{path.name}" in module.__doc__
    config = module.get_config()
    assert flat_keys(config) == flat_keys(default_config(config.task)), "a recipe declares no field"
    check_config(config, device_count=4 if path.stem in FOUR_IMAGES_A_STEP else 8)
    model = model_from_config(config.model, num_classes=7)
    size = config.data.image_size
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    output = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x)[0], images)
    assert all(leaf.shape[0] == 2 for leaf in jax.tree.leaves(output))
    # Detections name a class, other outputs have a number for each.
    assert isinstance(output, dict) or output.shape[-1] == 7


@pytest.mark.parametrize("path", [*MODULES, *CONFIGS, *BENCHMARKS, *PAGES], ids=relative)
def test_the_old_words_stay_away(path):
    for number, line in enumerate(path.read_text().splitlines(), 1):
        assert not DENIED.search(line), f"{relative(path)}:{number}: {line}"


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_names_say_what_they_hold(path):
    tree = ast.parse(path.read_text())
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    assert not names & DENIED_NAMES
    first = ast.get_docstring(tree)
    assert first, "a module says what it holds"


def test_functions_and_files_are_short():
    lengths = []
    for path in MODULES:
        text = path.read_text()
        assert len(text.splitlines()) <= 350, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = node.end_lineno - node.lineno + 1
                assert length <= 90, (path, node.name)
                lengths.append(length)
    assert statistics.median(lengths) < 10
