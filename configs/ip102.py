"""IP102 (102 insect pests) from scratch with CLUENet (paper, supplement).

    python main.py --config=configs/ip102.py --workdir=runs/ip102

Our accuracy is not measured yet. The images are put in place by hand; without
them the command says where.
"""

from configs import mini_imagenet


def get_config():
    """As configs/mini_imagenet.py, on other images."""
    config = mini_imagenet.get_config()
    config.data.name = "ip102"
    return config
