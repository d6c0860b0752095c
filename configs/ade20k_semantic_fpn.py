"""ADE20K with Semantic FPN: PVT's protocol, since ClusTR's paper does not state its own.

    python main.py --config=configs/ade20k_semantic_fpn.py:b2 --config.data.dir=ROOT \\
        --config.init.backbone=IMAGENET_WORKDIR --workdir=DIR

ROOT is the folder ADEChallengeData2016. After the colon b1, b2 or b3 for ClusTR, or the name of
any model. The paper's figure for ClusTR is 48.0 % mIoU, of which size is not known; ours is
not measured yet.
"""

from cluenet_jax.config import default_config

# Training images and iterations of the protocol.
_IMAGES, _STEPS = 20_210, 80_000


def get_config(variant="b2"):
    """80,000 steps of 16 crops of 512 pixels."""
    config = default_config("segmentation")
    config.model.backbone = f"clustr_{variant}" if variant in ("b1", "b2", "b3") else variant
    config.model.drop_path = 0.1
    config.data.name = "ade20k"
    config.data.image_size = 512
    config.data.num_workers = -1
    config.segmentation.denominator = "all"
    config.optim.batch_size = 16
    config.optim.peak_lr = 1e-4
    config.optim.weight_decay = 1e-4
    config.optim.epochs = _STEPS * 16 / _IMAGES
    config.optim.warmup_epochs = 0.0
    config.optim.min_lr = 0.0
    config.optim.decay = "poly"
    config.optim.poly_power = 0.9
    config.optim.lr_update = "step"
    config.eval.every = 8.0
    config.eval.batch_size = 16
    return config
