"""CamVid: street scenes of 11 classes, from scratch.

    python main.py --config=configs/camvid.py --config.data.dir=ROOT --workdir=DIR
    python main.py --config=configs/camvid.py:clustr_nano --config.data.dir=ROOT --workdir=DIR

ROOT has images/{train,val,test} and annotations/{train,val,test}. Sized for two CPU cores.
"""

from cluenet_jax.config import default_config


def get_config(backbone="cluenet_nano"):
    """The backbone may follow the colon."""
    config = default_config("segmentation")
    config.model.backbone = backbone
    config.model.semantic_fpn.neck_width = 96
    config.model.semantic_fpn.width = 64
    config.data.name = "camvid"
    config.data.image_size = 192
    config.augment.scale = (480, 360)
    config.augment.scale_ratio = (0.5, 1.5)
    config.segmentation.eval_scale = (480, 360)
    config.optim.batch_size = 8
    config.optim.peak_lr = 1e-3
    config.optim.weight_decay = 0.05
    config.optim.epochs = 40.0
    config.optim.warmup_epochs = 2.0
    config.optim.lr_update = "step"
    config.eval.every = 10.0
    config.eval.batch_size = 8
    config.train.log_every = 20
    return config
