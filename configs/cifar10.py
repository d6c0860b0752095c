"""CIFAR-10 from scratch with CLUENet, by the recipe of CIFAR-100.

    python main.py --config=configs/cifar10.py --workdir=runs/cifar10

The paper has no figure for CIFAR-10; ours is not measured yet.
"""

from configs import cifar100


def get_config():
    """As configs/cifar100.py, on other images."""
    config = cifar100.get_config()
    config.data.name = "cifar10"
    return config
