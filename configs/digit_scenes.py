"""Segmentation without a download: scenes of scanned digits, with a class for each pixel.

    python main.py --config=configs/digit_scenes.py
    python main.py --config=configs/digit_scenes.py:clustr_nano

Expected: at least 90 % mIoU on the 200 test scenes, in about 5 minutes on 2 CPU cores.
"""

from cluenet_jax.config import default_config


def get_config(backbone="cluenet_nano"):
    """Sized for a laptop; the backbone may follow the colon."""
    config = default_config("segmentation")
    config.model.backbone = backbone
    # It sees each scan few times: nothing has to keep it from learning them by heart.
    config.model.drop_path = 0.0
    config.model.semantic_fpn.dropout = 0.0
    config.model.semantic_fpn.neck_width = 32
    config.model.semantic_fpn.width = 32
    config.data.name = "digit_scenes"
    config.data.image_size = 64
    config.augment.scale = (64, 64)
    config.augment.scale_ratio = (1.0, 1.0)
    config.augment.max_class_fraction = 1.0
    config.augment.photometric = False
    # A mirrored digit is none.
    config.augment.flip_prob = 0.0
    # Two of three pixels are ground: with equal weights, digits stay one class for long.
    config.segmentation.class_weights = (0.5, *[1.0] * 10)
    config.segmentation.eval_scale = (64, 64)
    config.optim.batch_size = 16
    config.optim.peak_lr = 3e-3
    config.optim.weight_decay = 0.05
    config.optim.epochs = 4.5
    config.optim.warmup_epochs = 0.5
    config.optim.lr_update = "step"
    config.eval.every = 4.5
    config.eval.batch_size = 40
    config.train.log_every = 10
    return config
