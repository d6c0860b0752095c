"""COCO with Mask R-CNN: PVT's and Swin's protocols, since ClusTR's paper does not state its own.

    python main.py --config=configs/coco_mask_rcnn.py:b2,1x --config.data.dir=ROOT \\
        --config.init.backbone=IMAGENET_WORKDIR --workdir=DIR

ROOT has train2017/, val2017/ and annotations/. After the colon b1, b2 or b3 for ClusTR, or the name
of any model; then 1x (PVT's: 12 epochs) or 3x (Swin's: 36 epochs, several sizes and crops). Our AP
is not measured yet.
"""

from cluenet_jax.config import default_config

_IMAGES = 117_266


def get_config(variant="b2,1x"):
    """Batches of 16 images of up to 1333x800 pixels."""
    name, _, schedule = variant.partition(",")
    if schedule not in ("", "1x", "3x"):
        raise ValueError(f"{schedule!r} is not 1x or 3x.")
    config = default_config("detection")
    config.model.backbone = f"clustr_{name}" if name in ("b1", "b2", "b3") else name
    config.data.name = "coco"
    config.data.image_size = 224
    config.data.num_workers = -1
    config.optim.batch_size = 16
    config.optim.peak_lr = 2e-4
    config.optim.weight_decay = 1e-4
    config.optim.epochs = 12.0
    config.optim.decay = "steps"
    config.optim.decay_epochs = (8.0, 11.0)
    config.optim.min_lr = 0.0
    config.optim.warmup_epochs = 500 * 16 / _IMAGES
    config.optim.warmup_lr = 2e-7
    config.optim.lr_update = "step"
    config.eval.batch_size = 16
    if schedule == "3x":
        config.augment.short_sides = tuple(range(480, 801, 32))
        config.augment.crop_prob = 0.5
        config.optim.epochs = 36.0
        config.optim.decay_epochs = (27.0, 33.0)
        config.optim.peak_lr = 1e-4
        config.optim.warmup_lr = 1e-7
        config.optim.weight_decay = 0.05
        config.optim.no_weight_decay = "norm"
    return config
