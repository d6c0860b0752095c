"""Fine-tuning a trained network on your own pictures (folders as in image_folder.py).

    python main.py --config=configs/finetune.py --config.init_from=CHECKPOINT \\
        --config.model.name=cluenet_tiny --config.data.dir=ROOT --workdir=DIR

    python main.py --config=configs/finetune.py:32 ...       # pictures of 32 pixels

CHECKPOINT is a workdir of this code, or what `python -m cluenet_jax.convert` made of
published PyTorch weights. All is taken but the head; the number after the colon may
differ from the size it was trained at. The new head learns ten times as fast as the
rest; `--config.optim.freeze_backbone=true` trains the head alone.
"""

from configs import image_folder


def get_config(image_size="224"):
    """The published recipe for this size, shortened and at a lower rate."""
    config = image_folder.get_config(image_size)
    config.optim.epochs = 20.0
    config.optim.warmup_epochs = 1.0
    config.optim.peak_lr = 2e-4
    config.optim.head_lr_scale = 10.0
    config.optim.lr_per = "step"
    return config
