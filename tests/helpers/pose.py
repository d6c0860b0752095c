"""Tiny pose models of figures, COCO files of keypoints, and truths as an evaluator gets them."""

import dataclasses
import json
import pathlib

from cluenet_jax.checkpoints.manager import Checkpoints
from cluenet_jax.checkpoints.metadata import Metadata
from cluenet_jax.config import default_config
from cluenet_jax.data import load_dataset
from cluenet_jax.tasks import create_task
from tests.helpers.images import encode, smooth_image
from tests.helpers.models import SMALL_CLUENET, random_images, random_variables

SIZE = (48, 64)
NAMES = ["head", "left_hand", "right_hand", "tail"]


def small_config(**settings):
    """A tiny model of figures."""
    config = default_config("pose")
    config.data.image_size = 64
    config.model.cluenet.update(SMALL_CLUENET)
    config.model.heatmap_fpn.width = 8
    config.pose.crop_size, config.pose.sigma = (64, 48), 1.0
    config.update_from_flattened_dict(settings)
    return config


def figures(**splits):
    return load_dataset("figures", **splits)


def prepared(task, dataset):
    """The dataset with the sources that the task makes examples of."""
    sources = {"train": task.train_source(dataset.train), "eval": task.eval_source(dataset.eval)}
    return dataclasses.replace(dataset, **sources)


def save_checkpoint(workdir: pathlib.Path, **settings) -> pathlib.Path:
    """A workdir of random weights."""
    config, info = small_config(**settings), figures().info
    task = create_task(config, info)
    variables = random_variables(task.build_model(), random_images(1, *task.image_shape))
    # Sure of something everywhere.
    head = variables["params"]["head"]["classifier"]
    head["bias"] = head["bias"] + 1.0
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save(Metadata.of_run(config, info, task.best_metric), variables=variables)
    return workdir


def pose_annotation(key, image=5, **fields):
    points = [10, 10, 2, 20, 30, 1, 30, 30, 2, 0, 0, 0]
    annotation = dict(
        id=key, image_id=image, category_id=4, bbox=[8, 6, 24, 30], area=500, iscrowd=0,
        keypoints=points, num_keypoints=3,
    )  # fmt: skip
    return {**annotation, **fields}


def poses_content() -> dict:
    """Three images: of two poses, of a crowd and one, of none."""
    images = [dict(id=i, file_name=f"{i}.png", height=SIZE[0], width=SIZE[1]) for i in (5, 2, 9)]
    category = dict(id=4, name="cat", keypoints=NAMES, skeleton=[[1, 2], [1, 3], [1, 4]])
    annotations = [
        pose_annotation(11),
        pose_annotation(12, bbox=[30, 20, 60, 60]),
        pose_annotation(13, image=2, iscrowd=1),
        pose_annotation(14, image=2),
    ]
    return dict(images=images, annotations=annotations, categories=[category])


def poses_folder(root: pathlib.Path, train=None, val=None, skeleton=None) -> pathlib.Path:
    """The files that `keypoints_json` reads, with their images."""
    for split, content in (("train", train), ("val", val)):
        content = content or poses_content()
        (root / split).mkdir(parents=True)
        (root / f"keypoints_{split}.json").write_text(json.dumps(content))
        for number in (2, 5, 9):
            image = smooth_image(number, SIZE[1], SIZE[0])
            (root / split / f"{number}.png").write_bytes(encode(image))
    if skeleton:
        (root / "skeleton.json").write_text(json.dumps(skeleton))
    return root
