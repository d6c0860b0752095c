"""CUB-200-2011 (200 birds) from scratch with CLUENet (paper, supplement).

    python main.py --config=configs/cub200.py --workdir=runs/cub200

Our accuracy is not measured yet. TFDS downloads the images and needs
TensorFlow to prepare them, once; without it the command says what to install.
"""

from configs import mini_imagenet


def get_config():
    """As configs/mini_imagenet.py, on other images."""
    config = mini_imagenet.get_config()
    config.data.name = "caltech_birds2011"
    return config
