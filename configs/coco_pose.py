"""COCO's persons with 17 keypoints: TCFormer's protocol, since ClusTR's paper does not state one.

    python main.py --config=configs/coco_pose.py:b2,heatmap_mta --config.data.dir=ROOT \\
        --config.init.backbone=IMAGENET_WORKDIR --workdir=DIR

ROOT has train2017/, val2017/ and annotations/person_keypoints_{train,val}2017.json. After the colon
b1, b2 or b3 for ClusTR, or the name of any model; then a head. Persons are evaluated in their true
boxes, or with `--config.eval.boxes=FILE.json` in a detector's. Our AP is not measured yet.
"""

from cluenet_jax.config import default_config

# Persons that are learned from.
_PERSONS = 149_813


def get_config(variant="b2,heatmap_fpn"):
    """Crops of 256x192 pixels, 512 a step."""
    config = default_config("pose")
    name, _, head = variant.partition(",")
    config.model.backbone = f"clustr_{name}" if name in ("b1", "b2", "b3") else name
    config.model.head = head or "heatmap_fpn"
    config.data.name = "coco_keypoints"
    config.data.image_size = 256
    config.data.num_workers = -1
    config.optim.batch_size = 512
    config.optim.peak_lr = 5e-4
    config.optim.weight_decay = 0.01
    config.optim.epochs = 210.0
    config.optim.decay = "steps"
    config.optim.decay_epochs = (170.0, 200.0)
    config.optim.min_lr = 0.0
    config.optim.warmup_epochs = 500 * 512 / _PERSONS
    config.optim.warmup_lr = 5e-7
    config.optim.lr_update = "step"
    config.eval.every = 10.0
    return config
