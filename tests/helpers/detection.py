"""Tiny detection models of scenes of digits, and checkpoints of which the detections are known."""

import pathlib

import jax
import jax.numpy as jnp

from cluenet_jax.checkpoints.manager import Checkpoints
from cluenet_jax.checkpoints.metadata import Metadata
from cluenet_jax.config import default_config
from cluenet_jax.data import load_dataset
from cluenet_jax.tasks import create_task
from tests.helpers.models import SMALL_CLUENET, random_images, random_variables

# The class that a sure model sees in every box.
SEEN = 4


def small_config(**settings):
    """A tiny model of scenes of digits."""
    config = default_config("detection")
    config.data.image_size = 64
    config.model.cluenet.update(SMALL_CLUENET)
    head = config.model.mask_rcnn
    head.neck_width = head.rpn_width = head.mask_width = 8
    head.box_width = 16
    head.train_candidates = head.eval_candidates = 20
    head.train_proposals = head.eval_proposals = 8
    head.rpn_samples, head.roi_samples, head.max_detections = 16, 8, 4
    # Of untrained models too something is seen.
    head.score_threshold = 0.01
    config.augment.long_side, config.augment.short_sides = 64, (64,)
    config.detection.num_slots = 4
    config.detection.eval_scale = (64, 64)
    config.update_from_flattened_dict(settings)
    return config


def scenes():
    return load_dataset("digit_scenes")


def save_checkpoint(workdir: pathlib.Path, sure: bool, **settings) -> pathlib.Path:
    """A workdir of random weights: sure of class `SEEN` in any anchor, or of none in any."""
    config, info = small_config(**settings), scenes().info
    task = create_task(config, info)
    variables = random_variables(task.build_model(), random_images(1, *task.preprocessing.shape))
    head = variables["params"]["head"]
    for name in ("rpn_head", "box_head"):
        head[name]["deltas"] = jax.tree.map(jnp.zeros_like, head[name]["deltas"])
    classifier = head["box_head"]["classifier"]
    classifier["bias"] = classifier["bias"].at[SEEN if sure else -1].add(100.0)
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save(Metadata.of_run(config, info, task.best_metric), variables=variables)
    return workdir
