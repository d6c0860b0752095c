"""Small heads of Mask R-CNN on levels of odd sizes."""

import functools

import numpy as np

import cluenet_jax
from tests.helpers import dense
from tests.helpers.models import random_variables

CHANNELS, SIZES = (8, 10, 12, 14), [(9, 14), (5, 7), (3, 4), (2, 2)]
LEVELS = tuple(
    dense.normal((2, *size, width), i)
    for i, (size, width) in enumerate(zip(SIZES, CHANNELS, strict=True))
)
IMAGE_SIZES = np.asarray([[33, 50], [36, 41]])


def tiny_head(num_classes=3, **options):
    sizes = dict(neck_width=6, rpn_width=7, box_width=9, mask_width=5)
    sizes |= dict(rpn_samples=300, roi_samples=12, train_candidates=50, train_proposals=20)
    sizes |= dict(eval_candidates=50, eval_proposals=20, max_detections=7)
    return cluenet_jax.create_head("mask_rcnn", CHANNELS, num_classes, **{**sizes, **options})


@functools.cache
def variables_of(head):
    return random_variables(head, LEVELS)
