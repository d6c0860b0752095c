"""Poses without a download: articulated figures on textured ground, with 14 joints.

    python main.py --config=configs/figures_pose.py
    python main.py --config=configs/figures_pose.py:clustr_nano,heatmap_deconv

Expected: at least 95 % of the joints within a tenth of the figure's height on the test scenes, in
under 5 minutes on 2 CPU cores.
"""

from cluenet_jax.config import default_config


def get_config(variant="cluenet_nano,heatmap_fpn"):
    """Sized for a laptop; the backbone and a head may follow the colon."""
    config = default_config("pose")
    backbone, _, head = variant.partition(",")
    config.model.backbone = backbone
    config.model.head = head or "heatmap_fpn"
    config.model.drop_path = 0.0
    config.model[config.model.head].width = 32
    config.data.name = "figures"
    config.data.image_size = 64
    config.pose.crop_size = (64, 48)
    config.pose.sigma = 1.0
    # A figure is seen a few times only.
    config.augment.half_body_prob = 0.0
    config.augment.scale = 0.15
    config.augment.rotation = 15.0
    config.optim.batch_size = 32
    config.optim.peak_lr = 3e-3
    config.optim.weight_decay = 0.05
    config.optim.epochs = 5.0
    config.optim.warmup_epochs = 0.5
    config.optim.lr_update = "step"
    config.eval.every = 2.5
    config.eval.batch_size = 64
    config.train.log_every = 10
    return config
