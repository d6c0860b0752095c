"""The notebooks: they run, and hold no outputs but the images that they are there to show."""

import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_and_holds_images_alone(path):
    nbformat = pytest.importorskip("nbformat")
    assert path.stat().st_size < 300_000
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    outputs = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]
    assert outputs
    assert all([*output.get("data", {})] == ["image/png"] for output in outputs)
    assert all(c.execution_count is None for c in notebook.cells if c.cell_type == "code")


@pytest.mark.chaos
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch, compiled_programs):
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    from examples.run import execute, keep_images

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(compiled_programs))
    notebook = execute(path, tmp_path)
    keep_images(notebook)
    assert any(c.cell_type == "code" and c.outputs for c in notebook.cells)
