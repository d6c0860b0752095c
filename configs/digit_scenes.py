"""Segmentation without a download: scenes of scanned digits, with a class for each pixel.

    python main.py --config=configs/digit_scenes.py
    python main.py --config=configs/digit_scenes.py:clustr_nano

Not tuned yet: after six epochs it tells digits from the ground, not one digit from another.
"""

from cluenet_jax.config import default_config


def get_config(backbone="cluenet_nano"):
    """Sized for a laptop; the backbone may follow the colon."""
    config = default_config("segmentation")
    config.model.backbone = backbone
    config.model.semantic_fpn.neck_width = 64
    config.model.semantic_fpn.width = 32
    config.data.name = "digit_scenes"
    config.data.image_size = 96
    config.augment.scale = (96, 96)
    config.augment.scale_ratio = (0.75, 1.5)
    config.augment.max_class_fraction = 1.0
    config.augment.photometric = False
    # A mirrored digit is none.
    config.augment.flip_prob = 0.0
    config.segmentation.eval_scale = (96, 96)
    config.optim.batch_size = 16
    config.optim.peak_lr = 4e-3
    config.optim.weight_decay = 0.05
    config.optim.epochs = 8.0
    config.optim.warmup_epochs = 1.0
    config.optim.lr_update = "step"
    config.eval.every = 2.0
    config.eval.batch_size = 40
    config.train.log_every = 10
    return config
