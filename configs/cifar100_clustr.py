"""CIFAR-100 with a ClusTR for small images: the ImageNet recipe at 32 pixels.

    python main.py --config=configs/cifar100_clustr.py --workdir=runs/cifar100_clustr

No figure is published for this, and ours is not measured yet.
"""

from configs import imagenet_clustr


def get_config():
    """The nano variant, padded crops instead of resized ones, a third of the epochs."""
    config = imagenet_clustr.get_config("nano,512")
    config.data.name = "cifar100"
    config.data.image_size = 32
    config.data.num_workers = 0
    config.eval.resize = 0
    config.data.num_repeats = 1
    config.augment.crop_area = (0.0, 0.0)
    config.augment.crop_padding = 4
    config.optim.epochs = 100.0
    return config
