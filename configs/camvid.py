"""CamVid: street scenes of 11 classes, from scratch.

    python main.py --config=configs/camvid.py --config.data.dir=ROOT --workdir=DIR
    python main.py --config=configs/camvid.py:clustr_nano --config.data.dir=ROOT --workdir=DIR

ROOT has images/{train,val,test} and annotations/{train,val,test}. Sized for two CPU cores.
Classes are weighted by the square roots of ENet's weights (A. Paszke et al., arXiv 1606.02147),
which are 1 / ln(1.02 + p), where p is the class's share of the training pixels; here divided by
their mean. With the weights themselves rare classes are found where they are not.
"""

from cluenet_jax.config import default_config, see_every_fourth_pixel

# Sky, building, pole, road, pavement, tree, sign, fence, car, pedestrian, bicyclist.
_WEIGHTS = (0.559, 0.489, 1.368, 0.431, 0.929, 0.698, 1.326, 1.335, 0.845, 1.455, 1.564)


def get_config(backbone="cluenet_nano"):
    """The backbone may follow the colon."""
    config = default_config("segmentation")
    config.model.backbone = backbone
    see_every_fourth_pixel(config)
    config.model.semantic_fpn.neck_width = 64
    config.model.semantic_fpn.width = 32
    config.data.name = "camvid"
    config.data.image_size = 192
    config.augment.scale = (480, 360)
    config.augment.scale_ratio = (0.5, 1.5)
    config.segmentation.class_weights = _WEIGHTS
    config.segmentation.eval_scale = (480, 360)
    config.optim.batch_size = 8
    config.optim.peak_lr = 1e-3
    config.optim.weight_decay = 0.05
    config.optim.epochs = 60.0
    config.optim.warmup_epochs = 2.0
    config.optim.lr_update = "step"
    config.eval.every = 10.0
    config.eval.batch_size = 8
    config.train.log_every = 20
    return config
