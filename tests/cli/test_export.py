"""A checkpoint as a program, or under PyTorch's names."""

import json
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from cluenet_jax.checkpoints.load import TrainedModel, load
from cluenet_jax.checkpoints.metadata import Metadata
from cluenet_jax.cli import export
from cluenet_jax.config import default_config
from cluenet_jax.data import DatasetInfo
from cluenet_jax.errors import UserError
from cluenet_jax.export import export_program
from cluenet_jax.tasks import create_task
from tests.helpers.golden import relative_error
from tests.helpers.images import smooth_image
from tests.helpers.models import random_variables

ROOT = pathlib.Path(__file__).parent.parent.parent


def test_export_to_pytorchs_names(case, converted, tmp_path):
    export.main([str(converted), str(tmp_path / "out.safetensors")])
    written = load_file(tmp_path / "out.safetensors")
    assert written.keys() == case["param"].keys()
    for name, value in case["param"].items():
        np.testing.assert_array_equal(written[name], value, name)
        assert written[name].shape == value.shape


def test_an_exported_program_runs_without_this_package(converted, tmp_path):
    """The README's script, in a process where `cluenet_jax` cannot be imported."""
    out = tmp_path / "out"
    export.main([str(converted), str(out)])
    script = re.search(
        r"```python\n(# classify\.py\n.*?)```", (ROOT / "README.md").read_text(), re.S
    )
    image = smooth_image(0, 32, 32)
    image.save(tmp_path / "image.png")
    blocked = "import sys; sys.modules['cluenet_jax'] = sys.modules['flax'] = None\n"
    (tmp_path / "classify.py").write_text(blocked + script.group(1) + "print(logits.tolist())\n")
    done = subprocess.run(
        [sys.executable, "classify.py", "image.png"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    best, logits = done.stdout.strip().splitlines()
    trained = load(str(converted))
    normal = trained.preprocessing.normalize(np.asarray(image)[None])
    expected = np.asarray(jax.jit(trained.model.apply)(trained.variables, normal))[0]
    np.testing.assert_allclose(json.loads(logits), expected, atol=1e-5)
    assert best == f"kind {expected.argmax()}"


def test_an_exported_program_takes_any_batch(converted):
    program = jax.export.deserialize(bytearray(export_program(load(str(converted)))))
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    together = program.call(images)
    apart = np.concatenate([program.call(images[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(together, apart, atol=1e-5)


@pytest.mark.parametrize("side", [32, 96])
def test_clustr_is_exported_too(side):
    """Clustered all at once, and one image after the other."""
    config = default_config()
    config.model.backbone, config.data.image_size = "clustr_nano", side
    info = DatasetInfo("digits", ("a", "b"), (0.5,) * 3, (0.5,) * 3)
    task = create_task(config, info)
    model = task.build_model()
    variables = random_variables(model, np.zeros((1, 32, 32, 3), np.float32))
    trained = TrainedModel(task, model, variables, Metadata.of_run(config, info, "top1"))
    images = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), dtype=np.uint8)
    logits = jax.export.deserialize(bytearray(export_program(trained))).call(images)
    # Normalized inside too: another rounding can move a token to another cluster.
    expected = jax.jit(
        lambda images: model.apply(variables, trained.preprocessing.normalize(images))
    )(images)
    assert relative_error(logits, expected) < 1e-5


def test_a_file_is_no_folder(converted, tmp_path):
    (tmp_path / "out").write_text("kept")
    with pytest.raises(UserError, match="is a file; expected a folder"):
        export.main([str(converted), str(tmp_path / "out")])
    assert (tmp_path / "out").read_text() == "kept"
