"""The embedded default: 1,797 scanned digits of scikit-learn, no download.

    python main.py --config=configs/digits.py

Expected: at least 97 % of the 360 test digits, in under 3 minutes on 2 CPU cores.
"""

from cluenet_jax.config import default_config


def get_config():
    """Sized for a laptop: few steps, small batches."""
    config = default_config()
    config.model.backbone = "cluenet_nano"
    config.data.name = "digits"
    config.data.image_size = 32
    config.data.cache = True
    config.augment.crop_padding = 4
    config.optim.batch_size = 128
    config.optim.peak_lr = 2e-3
    config.optim.epochs = 25.0
    config.optim.warmup_epochs = 2.0
    config.optim.lr_update = "step"
    config.eval.every = 5.0
    config.eval.batch_size = 120
    config.train.log_every = 10
    return config
