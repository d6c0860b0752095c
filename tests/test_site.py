"""The documentation site: it builds without a warning, holds all pages, and no link is dead."""

import importlib
import pathlib
import re
import shlex
import subprocess
import sys
import zlib
from urllib.parse import unquote

import pytest

import cluenet_jax

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = pathlib.Path(cluenet_jax.__file__).parent
PAGES = (
    "index getting_started own_data models pretrained tasks classification segmentation detection "
    "pose maps tpu fault_tolerance performance architecture numerics peers api/index changelog"
).split()
# Packages that export their public names, and those whose modules are their public parts.
EXPORTING = ("", "models", "ops", "explain", "visualization", "weights", "data", "data.datasets")
PARTS = ("tasks", "metrics", "checkpoints", "train", "compile", "models.backbones")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> pathlib.Path:
    """The site, built by the command of `make docs`."""
    out = tmp_path_factory.mktemp("site")
    recipe = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    command = re.search(r"\$\(BIN\)/python (-m sphinx .*?)\s+docs build/docs\n", recipe)[1]
    assert "--fail-on-warning" in command and "--nitpicky" in command
    done = subprocess.run(
        [sys.executable, *shlex.split(command), "docs", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def documented(site: pathlib.Path) -> set[str]:
    """Names of all Python objects that the site describes, of its inventory."""
    lines = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    entries = zlib.decompress(lines).decode().splitlines()
    return {line.split()[0] for line in entries if line.split()[1].startswith("py:")}


def test_every_page_is_in_the_site_and_in_its_navigation(site):
    first = (site / "index.html").read_text()
    for page in PAGES:
        assert (site / f"{page}.html").is_file(), page
        assert page == "index" or f'href="{page}.html"' in first, page
    sources = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert sources == {page for page in PAGES if "/" not in page}


def test_the_api_holds_all_public_names(site):
    names = documented(site)
    for part in EXPORTING:
        module = importlib.import_module(f"cluenet_jax.{part}".rstrip("."))
        # What both export is described once.
        home = module.__name__.removesuffix(".datasets")
        if part == "models":
            names |= {f"{home}.{name}" for name in cluenet_jax.__all__}
        public = {f"{home}.{name}" for name in module.__all__ if not name.startswith("__")}
        assert public <= names, public - names
    for part in PARTS:
        for path in PACKAGE.joinpath(*part.split(".")).glob("*.py"):
            assert path.stem == "__init__" or f"cluenet_jax.{part}.{path.stem}" in names, path


def test_links_and_images_of_the_site_are_there(site):
    for page in site.rglob("*.html"):
        text = page.read_text()
        for target in re.findall(r'(?:href|src)="([^"#?:]+)["#?]', text):
            assert (page.parent / unquote(target)).exists(), (page.name, target)


def test_the_site_loads_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        tags = re.findall(r"<(?:link|script|img|iframe)\b[^>]*>", page.read_text())
        assert not [tag for tag in tags if re.search(r'(?:href|src)="(?:https?:)?//', tag)], page
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*['\"]?(?:https?:)?//", style.read_text()), style
