"""Fine-tuning a trained model on your own images (folders as in image_folder.py).

    python main.py --config=configs/finetune.py --config.init.checkpoint=CHECKPOINT \\
        --config.model.backbone=cluenet_tiny --config.data.dir=ROOT --workdir=DIR

    python main.py --config=configs/finetune.py:32 ...       # images of 32 pixels

CHECKPOINT is a workdir of this code, what `python -m cluenet_jax convert` made of
published PyTorch weights, or the name of weights in the package,
cluenet_nano.cifar100. The backbone is taken; the number after the colon may
differ from the size it was trained at. The new head learns ten times as fast as the
rest; `--config.optim.freeze_backbone=true` trains the head alone.
"""

from configs import image_folder


def get_config(image_size="224"):
    """The published recipe for this size, shortened and at a lower learning rate."""
    config = image_folder.get_config(image_size)
    config.optim.epochs = 20.0
    config.optim.warmup_epochs = 1.0
    config.optim.peak_lr = 2e-4
    config.optim.head_lr_scale = 10.0
    config.optim.lr_update = "step"
    return config
