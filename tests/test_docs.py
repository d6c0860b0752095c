"""The documents agree with the code, with each other and with what was measured."""

import importlib
import json
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

import cluenet_jax
from benchmarks import table
from cluenet_jax.cli.main import VERBS
from cluenet_jax.config import default_config
from cluenet_jax.data import load_dataset
from cluenet_jax.models.backbones import FAMILIES
from cluenet_jax.tasks import TASKS, create_task
from tests.helpers.images import smooth_image, stripes
from tests.helpers.settings import flat_keys

ROOT = pathlib.Path(__file__).parent.parent
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, *DOCS, ROOT / "CHANGELOG.md"]
COMMANDS = [README, *DOCS, ROOT / "Makefile", *sorted((ROOT / "configs").glob("*.py"))]
# Folders that paths may be relative to.
BASES = [ROOT, ROOT / "cluenet_jax", ROOT / "docs"]
SETTINGS = {key for task in TASKS for key in flat_keys(default_config(task))}
SECTIONS = "|".join(sorted({key.split(".")[0] for key in SETTINGS if "." in key}))


def relative(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


def table_rows(page: pathlib.Path, first_cell: str) -> list[list[str]]:
    """The cells of all rows that begin with `first_cell`, a pattern."""
    lines = [line for line in page.read_text().splitlines() if re.match(rf"\| {first_cell}", line)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("page", [table.README, table.PAGE], ids=relative)
def test_tables_hold_the_measured_figures(page):
    assert page.read_text() == table.with_tables(page), (
        "run python -m benchmarks.table --only_write"
    )


def test_both_pages_have_the_measured_ratios():
    """README: a row per model, ratios of both peers; docs/performance.md: a row per peer."""
    results = json.loads(table.THROUGHPUT.read_text())
    name = r"`\w+`, \d+², batch"
    full, short = table_rows(table.PAGE, name), table_rows(README, name)
    assert len(results) == len(full) == 2 * len(short)
    for number, result in enumerate(results):
        ratios = [result["infer_ratio"], result["train_ratio"]]
        row, first = short[number // 2], 1 + 2 * (number % 2)
        assert row[0] == full[number][0] and result["model"] in row[0]
        assert row[first : first + 2] == [f"{ratio:.1f}" for ratio in ratios]
        cells = (full[number][3], full[number][5])
        assert [cell.split("**")[1] for cell in cells] == [f"{ratio:.2f}" for ratio in ratios]


def test_every_model_is_in_the_readme_with_its_parameters():
    rows = {row[0].strip("`"): row[1] for row in table_rows(README, r"`\w+_\w+` \| [\d,]+ \|")}
    assert sorted(rows) == sorted(cluenet_jax.list_models())
    tests = ROOT / "tests" / "models" / "backbones"
    tested = "\n".join(path.read_text() for path in sorted(tests.glob("test_*.py")))
    tables = re.findall(r"^PARAMETERS = \{(.*?)\}", tested, re.S | re.M)
    assert len(tables) == len(FAMILIES)
    counts = re.findall(r'"(\w+)": ([\d_]+)', "".join(tables))
    assert len(counts) >= 26
    for name, count in counts:
        assert rows[name] == f"{int(count):,}", name


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_point_to_files(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if not target.startswith(("http://", "https://", "#")):
            assert (page.parent / target.split("#")[0]).exists(), target


@pytest.mark.parametrize("page", [README, *DOCS], ids=relative)
def test_named_files_exist(page):
    text = re.sub(r"```python\n# \w+\.py\n.*?```", "", page.read_text(), flags=re.S)
    for name in re.findall(r"(?<![\w/.*-])((?:\w+/)*\w+\.py)\b", text):
        # A link may be named by the last part of its path.
        linked = re.search(rf"\[`?{name}`?\]\(", text)
        assert linked or any((base / name).is_file() for base in BASES), name
    for folder in re.findall(r"`((?:\w+/)+)`", text):
        assert any((base / folder).is_dir() for base in BASES), folder


@pytest.mark.parametrize("page", COMMANDS, ids=relative)
def test_commands_exist(page):
    text = page.read_text()
    verbs = re.findall(r"python -m cluenet_jax ([a-z]\w*)", text)
    assert set(verbs) <= VERBS.keys()
    assert not re.search(r"python -m cluenet_jax\.", text)
    for module in re.findall(r"python -m (benchmarks\.\w+)", text):
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module
    for recipe in re.findall(r"--config=(configs/\w+\.py)", text):
        assert (ROOT / recipe).is_file(), recipe


@pytest.mark.parametrize("page", COMMANDS, ids=relative)
def test_settings_exist(page):
    text = page.read_text()
    keys = re.findall(r"--config\.([\w.]*\w)", text)
    keys += re.findall(rf"`(?:config\.)?((?:{SECTIONS})\.[\w.]*\w)(?:=\S*)?`", text)
    sections = {key.rsplit(".", 1)[0] for key in SETTINGS}
    for key in keys:
        assert key in SETTINGS | sections or key.endswith(".py"), key


def test_the_tools_of_the_readme_are_all_verbs():
    verbs = {row[0].strip("`").split()[0] for row in table_rows(README, rf"`({'|'.join(VERBS)}) ")}
    assert verbs == VERBS.keys()


@pytest.mark.parametrize("page", [README, *DOCS, ROOT / "Makefile"], ids=relative)
def test_flags_of_tools_exist(page):
    text = page.read_text().replace("\\\n", " ")
    calls = re.findall(r"python -m cluenet_jax (\w+)([^\n`]*)", text)
    calls += re.findall(rf"\| `({'|'.join(VERBS)}) ([^`]*)`", text)
    for verb, arguments in calls:
        source = (ROOT / "cluenet_jax" / "cli" / f"{verb}.py").read_text()
        for flag in re.findall(r"--\w+", arguments):
            known = "load_recipe(" if flag == "--config" else f'"{flag}"'
            assert known in source, (verb, flag)


def test_every_part_of_the_package_is_in_the_layout():
    text = (ROOT / "docs" / "architecture.md").read_text()
    package = ROOT / "cluenet_jax"
    for path in package.rglob("*.py"):
        part = path.relative_to(package)
        if part.name == "__init__.py" and part.parent.parts:
            assert f"| `{part.parent}/` |" in text, part
        elif len(part.parts) == 1 and not part.name.startswith("__"):
            assert f"`{part}`" in text, part


def test_every_promise_has_its_test():
    """docs/fault_tolerance.md names tests that exist, one or more per fault."""
    page = ROOT / "docs" / "fault_tolerance.md"
    text = page.read_text().split("| fault |")[1].split("\n\n")[0]
    for row in text.splitlines()[2:]:
        tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row.rsplit("|", 2)[1])
        assert tests, row
        for file, name in tests:
            assert re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.M), (file, name)


@pytest.mark.parametrize(
    "title, recipe",
    [
        ("Classification", "image_folder"),
        ("Segmentation", "mask_folder"),
        ("Detection: COCO's JSON", "coco_json"),
        ("Detection: PASCAL VOC's XML", "voc_boxes"),
        ("Poses", "keypoints_json"),
    ],
)
def test_folders_as_the_page_on_own_data_shows_can_be_learned_from(title, recipe, tmp_path):
    page = (ROOT / "docs" / "own_data.md").read_text()
    section = page.split(f"\n## {title}\n")[1].split("\n## ")[0]
    assert f"--config=configs/{recipe}.py" in section
    make_folder(section, tmp_path)
    config = importlib.import_module(f"configs.{recipe}").get_config()
    dataset = load_dataset(config.data.name, str(tmp_path))
    task = create_task(config, dataset.info)
    train, evaluation = task.train_source(dataset.train), task.eval_source(dataset.eval)
    assert len(train) and len(evaluation)
    assert task.train_example(train[0], np.random.default_rng(0))
    assert task.eval_example(evaluation[0])


def make_folder(section: str, root: pathlib.Path) -> None:
    """The images of the section's list, and the files whose content it shows."""
    files = re.findall(
        r"`ROOT/([\w/]+\.(?:json|txt|xml))`(?:(?!```).)*```(?:text|json|xml)\n(.*?)```",
        section,
        re.S,
    )
    # Those of `val`, which the text says are alike: of image 2 instead of 1.
    files += [
        (
            name.replace("train", "val").replace("/1.", "/2."),
            re.sub(r"^1$|1(?=\.jpg)", "2", content),
        )
        for name, content in files
        if "train" in name or "/1." in name
    ]
    for name, content in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    for name in re.search(r"```text\n(ROOT/.*?)```", section, re.S)[1].split():
        path = root / name.removeprefix("ROOT/")
        path.parent.mkdir(parents=True, exist_ok=True)
        image = smooth_image(0, 64, 48)
        if path.suffix == ".png":
            image = Image.fromarray(stripes(4, 48, 64))
        image.save(path)
