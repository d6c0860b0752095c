"""Images, a checkpoint of random weights for them, and a browser."""

import numpy as np
import pytest

from cluenet_jax.checkpoints.manager import Checkpoints
from cluenet_jax.checkpoints.metadata import Metadata
from cluenet_jax.cli import convert
from cluenet_jax.config import default_config
from cluenet_jax.data import load_dataset
from cluenet_jax.tasks import create_task
from tests.helpers.browser import launch_browser
from tests.helpers.converted import ARGUMENTS, NAME
from tests.helpers.golden import load_case
from tests.helpers.images import image_folder
from tests.helpers.models import random_images, random_variables


@pytest.fixture(scope="module")
def image_root(tmp_path_factory):
    """A folder of images of two classes, three of each to evaluate."""
    return image_folder(tmp_path_factory.mktemp("images"), train=1, test=3, side=32)


@pytest.fixture(scope="module")
def checkpoint(image_root, tmp_path_factory):
    """The workdir of a classifier of these images, with random weights."""
    config = default_config("classification")
    config.data.name, config.data.dir = "image_folder", str(image_root)
    info = load_dataset(config.data.name, config.data.dir).info
    task = create_task(config, info)
    variables = random_variables(task.build_model(), random_images(1, *task.preprocessing.shape))
    workdir = tmp_path_factory.mktemp("checkpoint") / "run"
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save(Metadata.of_run(config, info, task.best_metric), variables=variables)
    return workdir


@pytest.fixture(scope="module")
def browser():
    with launch_browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def case():
    """A recorded case of the reference."""
    return load_case(NAME, parameters_of=NAME)


@pytest.fixture(scope="session")
def converted(case, tmp_path_factory):
    """A checkpoint of the recorded weights."""
    folder = tmp_path_factory.mktemp("converted")
    np.savez(folder / "weights.npz", **case["param"])
    names = folder / "names.txt"
    names.write_text("\n".join(f"kind {i}" for i in range(10)) + "\n")
    target, source = folder / "checkpoint", str(folder / "weights.npz")
    convert.main([source, str(target), *ARGUMENTS, f"--names={names}"])
    return target
