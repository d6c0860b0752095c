"""Your own images with masks: ROOT/{images,annotations}/{train,val} and ROOT/classes.txt.

    python main.py --config=configs/mask_folder.py --config.data.dir=ROOT --workdir=DIR
    python main.py --config=configs/mask_folder.py:256 --config.data.dir=ROOT --workdir=DIR

The number after the colon is the side of the crops that are trained on, 512 if omitted; images
are resized so that it is their shorter side. `--config.init.backbone=WORKDIR` starts from the
backbone of any other run.
"""

from configs import ade20k_semantic_fpn


def get_config(crop="512"):
    """PVT's protocol, with a stronger rate and 50 epochs of any number of images."""
    config = ade20k_semantic_fpn.get_config("cluenet_nano")
    config.data.name = "mask_folder"
    config.data.image_size = int(crop)
    config.augment.scale = (4 * int(crop), int(crop))
    config.segmentation.eval_scale = (4 * int(crop), int(crop))
    config.optim.batch_size = 8
    config.optim.peak_lr = 1e-3
    config.optim.epochs = 50.0
    config.optim.warmup_epochs = 2.0
    config.eval.batch_size = 8
    return config
