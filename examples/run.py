"""Runs a notebook and keeps of its outputs the images alone.

    python examples/run.py examples/quickstart.ipynb

Needs nbclient and ipykernel, of the extra `test`.
"""

import argparse
import pathlib

import nbclient
import nbformat

TIMEOUT = 900


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("notebook", type=pathlib.Path, nargs="+")
    for path in parser.parse_args().notebook:
        notebook = execute(path, path.parent)
        keep_images(notebook)
        nbformat.write(notebook, path)


def execute(path: pathlib.Path, folder: pathlib.Path) -> nbformat.NotebookNode:
    """The notebook with all outputs of a run, in a folder; raises what a cell raises."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=TIMEOUT, resources=resources).execute()
    return notebook


def keep_images(notebook: nbformat.NotebookNode) -> None:
    """Drops texts, counts, times and the kernel's version, which differ between equal runs."""
    notebook.metadata.pop("language_info", None)
    for cell in notebook.cells:
        cell.metadata.clear()
        if cell.cell_type != "code":
            continue
        cell.execution_count = None
        images = [o for o in cell.outputs if "image/png" in o.get("data", {})]
        cell.outputs = [
            nbformat.v4.new_output("display_data", data={"image/png": o.data["image/png"]})
            for o in images
        ]


if __name__ == "__main__":
    main()
