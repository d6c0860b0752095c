"""ADE20K with UperNet: Swin's protocol, since ClusTR's paper does not state its own.

    python main.py --config=configs/ade20k_upernet.py:b2 --config.data.dir=ROOT \\
        --config.init.backbone=IMAGENET_WORKDIR --workdir=DIR

ROOT is the folder ADEChallengeData2016. After the colon b1, b2 or b3 for ClusTR, or the name of
any model. The paper's figure for ClusTR is 49.6 % mIoU, of which size is not known; ours is
not measured yet.
"""

from configs import ade20k_semantic_fpn

_IMAGES, _STEPS, _WARMUP = 20_210, 160_000, 1_500


def get_config(variant="b2"):
    """160,000 steps of 16 crops of 512 pixels."""
    config = ade20k_semantic_fpn.get_config(variant)
    config.model.head = "upernet"
    config.model.drop_path = 0.3
    config.segmentation.eval_multiple = 32
    config.optim.peak_lr = 6e-5
    config.optim.weight_decay = 0.01
    # Of the backbone: the BatchNorms of the head decay, and so do all biases of layers.
    config.optim.no_weight_decay = "norm"
    config.optim.epochs = _STEPS * 16 / _IMAGES
    config.optim.warmup_epochs = _WARMUP * 16 / _IMAGES
    config.optim.warmup_lr = 6e-11
    config.optim.poly_power = 1.0
    return config
