"""Mini-ImageNet from scratch with CLUENet, the published recipe (paper, Table 2).

    python main.py --config=configs/mini_imagenet.py --workdir=runs/mini_imagenet

Published top-1 after 105 epochs, by --config.model.backbone:
    cluenet_micro 78.75 %, cluenet_tiny 80.51 %, cluenet_small 81.49 %, cluenet_base 82.44 %.
The images are put in place by hand; without them the command says where.
"""

from cluenet_jax.config import default_config


def get_config():
    """100 epochs and 5 of warm-up, batch 128, images of 224 pixels."""
    config = default_config()
    config.model.backbone = "cluenet_tiny"
    config.data.name = "mini_imagenet"
    config.data.image_size = 224
    config.data.num_workers = -1
    config.eval.interpolation = "lanczos"
    config.eval.resize = 256
    config.augment.crop_area = (0.08, 1.0)
    config.augment.horizontal_flip = True
    config.augment.color_jitter = (0.2, 0.2, 0.2, 0.05)
    config.augment.erase_prob = 0.1
    config.augment.erase_area = (0.02, 0.2)
    config.augment.erase_aspect = (0.3, 3.3)
    config.augment.erase_mode = "zeros"
    config.optim.batch_size = 128
    config.optim.peak_lr = 2e-3
    config.optim.weight_decay = 0.05
    config.optim.epochs = 105.0
    config.optim.warmup_epochs = 5.0
    config.optim.warmup_lr = 1e-6
    config.optim.min_lr = 1e-5
    config.optim.lr_update = "epoch"
    config.optim.max_loss = 1e5
    config.eval.batch_size = 128
    return config
