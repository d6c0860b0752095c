"""COCO-WholeBody with 133 keypoints: TCFormer's protocol, since ClusTR's paper does not state one.

    python main.py --config=configs/coco_wholebody_pose.py:b2,heatmap_mta --config.data.dir=ROOT \\
        --config.init.backbone=IMAGENET_WORKDIR --workdir=DIR

ROOT has train2017/, val2017/ and annotations/coco_wholebody_{train,val}_v1.0.json. After the colon
b1, b2 or b3 for ClusTR, or the name of any model; then a head: the paper's is unknown, the
candidates are heatmap_deconv, heatmap_fpn and heatmap_mta. The published 59.4 AP are with boxes of
a detector (`--config.eval.boxes=FILE.json`) of 56.4 AP. Our AP is not measured yet.
"""

from configs import coco_pose


def get_config(variant="b2,heatmap_fpn"):
    """As `configs/coco_pose.py`."""
    config = coco_pose.get_config(variant)
    config.data.name = "coco_wholebody"
    return config
