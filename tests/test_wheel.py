"""The wheel alone, without the checkout: it has all files, and its tools work."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import venv
import zipfile

import numpy as np
import pytest

from cluenet_jax.pretrained import DEFAULT
from tests.helpers.converted import ARGUMENTS, NAME
from tests.helpers.golden import load_case
from tests.helpers.images import smooth_image

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "cluenet_jax"
SOURCES = ("pyproject.toml", "requirements.txt", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built of a copy, so that nothing of an earlier build gets in, without network."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(PACKAGE, source / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in SOURCES:
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", f"--wheel-dir={folder}", str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = folder.glob("*.whl")
    return file


def test_every_file_of_the_package_is_in_the_wheel(wheel):
    files = {
        str(path.relative_to(ROOT))
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    names = zipfile.ZipFile(wheel).namelist()
    assert {name for name in names if ".dist-info/" not in name} == files


class Installed:
    """A virtual environment with the wheel, which sees this one's libraries but no checkout.

    Args:
      folder: For the environment; commands run in it.
      wheel: The file.
      cache: For compiled programs.
    """

    def __init__(self, folder: pathlib.Path, wheel: pathlib.Path, cache: pathlib.Path):
        self.folder, self.cache = folder, cache
        venv.create(folder / "venv")
        self.python = folder / "venv" / "bin" / "python"
        (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
        # Of a .pth file's folders no .pth files are read, so no editable checkout is found.
        libraries = [path for path in sys.path if pathlib.Path(path).name == "site-packages"]
        (site / "libraries.pth").write_text("\n".join(libraries) + "\n")
        command = [sys.executable, "-m", "pip", f"--python={self.python}", "install", "--quiet"]
        command += ["--no-deps", "--no-index", "--ignore-installed", str(wheel)]
        subprocess.run(command, check=True, capture_output=True)

    def start(self, program: str, *arguments: str) -> subprocess.Popen:
        """Starts a program of the environment."""
        left_out = ("PYTHONPATH", "XLA_FLAGS")
        environment = {k: v for k, v in os.environ.items() if k not in left_out}
        environment["JAX_COMPILATION_CACHE_DIR"] = str(self.cache)
        return subprocess.Popen(
            [str(self.python.with_name(program)), *arguments],
            cwd=self.folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, program: str, *arguments: str) -> str:
        """What a program prints on stdout, of a command that succeeds."""
        process = self.start(program, *arguments)
        out, err = process.communicate(timeout=900)
        assert process.returncode == 0, out + err
        return out

    def tool(self, *arguments: str) -> str:
        return self.run("cluenet", *arguments)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory, compiled_programs):
    return Installed(tmp_path_factory.mktemp("installed"), wheel, compiled_programs)


@pytest.mark.chaos
def test_an_installed_wheel_works_without_the_checkout(installed):
    folder = installed.folder
    where = installed.run("python", "-c", "import cluenet_jax; print(cluenet_jax.__file__)")
    assert where.startswith(str(folder))
    smooth_image(0, 40, 50).save(folder / "image.png")
    np.savez(folder / "weights.npz", **load_case(NAME, parameters_of=NAME)["param"])

    (result,) = json.loads(installed.tool("predict", "--format=json", "image.png"))
    assert len(result["predictions"]) == 5
    assert "report.html" in installed.tool("visualize", "--out=maps", "--report", "image.png")
    report = (folder / "maps" / "report.html").read_text()
    for asset in ("viewer.css", "viewer.js"):
        assert (PACKAGE / "visualization" / asset).read_text().strip()[:200] in report
    installed.tool("convert", "weights.npz", "converted", *ARGUMENTS, "--dataset=digits")
    installed.tool("evaluate", "--checkpoint=converted", "--json=metrics.json")
    assert "top1" in json.loads((folder / "metrics.json").read_text())
    installed.tool("export", DEFAULT, "model.safetensors")
    (again,) = json.loads(
        installed.tool("predict", "--checkpoint=model.safetensors", "--format=json", "image.png")
    )
    assert again == result
    for verb in ("compile", "explain", "summary"):
        assert f"python -m cluenet_jax {verb}" in installed.tool(verb, "--help")


@pytest.mark.chaos
def test_the_demo_of_an_installed_wheel_serves_a_page(installed):
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("gradio", reason="Gradio, an optional extra, is not installed")
    process = installed.start("cluenet", "demo", "--port=0")
    try:
        line = process.stdout.readline()
        assert line.startswith("Open http"), process.communicate()
        assert httpx.get(line.split()[1]).status_code == 200
    finally:
        process.terminate()
        process.communicate()
