"""Your own images: root/train/CLASS/*.jpg and root/test/CLASS/*.jpg (or val).

    python main.py --config=configs/image_folder.py --config.data.dir=ROOT --workdir=DIR
    python main.py --config=configs/image_folder.py:32 --config.data.dir=ROOT --workdir=DIR

The number after the colon is the side in pixels that the model sees, 224 if
omitted. Up to 64 the recipe is that of CIFAR-100, above that of Mini-ImageNet.
"""

from configs import cifar100, mini_imagenet


def get_config(image_size="224"):
    """The published recipe for images of about this size."""
    size = int(image_size)
    config = cifar100.get_config() if size <= 64 else mini_imagenet.get_config()
    config.data.name = "image_folder"
    config.data.image_size = size
    config.data.cache = False  # Of a set of any size.
    if size <= 64:
        config.augment.crop_padding = size // 8
    return config
