"""COCO with RetinaNet: PVT's protocol, since ClusTR's paper does not state its own.

    python main.py --config=configs/coco_retinanet.py:b2,1x --config.data.dir=ROOT \\
        --config.init.backbone=IMAGENET_WORKDIR --workdir=DIR

ROOT and what follows the colon are as for `configs/coco_mask_rcnn.py`. Our AP is not measured yet.
"""

from configs import coco_mask_rcnn


def get_config(variant="b2,1x"):
    """As Mask R-CNN, at half of the learning rate."""
    config = coco_mask_rcnn.get_config(variant)
    config.model.head = "retinanet"
    config.optim.peak_lr /= 2
    config.optim.warmup_lr /= 2
    return config
