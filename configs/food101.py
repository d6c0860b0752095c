"""Food-101 from scratch with CLUENet (paper, supplement).

    python main.py --config=configs/food101.py --workdir=runs/food101

Our accuracy is not measured yet. TFDS downloads the images and needs
TensorFlow to prepare them, once; without it the command says what to install.
"""

from configs import mini_imagenet


def get_config():
    """As configs/mini_imagenet.py, on other images."""
    config = mini_imagenet.get_config()
    config.data.name = "food101"
    return config
