"""A few images of COCO learned by heart: shows that files, losses and AP fit together.

    python main.py --config=configs/coco_overfit.py --config.data.dir=ROOT --workdir=DIR

ROOT has train2017/ and annotations/instances_train2017.json, of some dozens of images; they are
learned and evaluated: a box AP that does not come near 1 says that something is wrong. Expected, of
80 images: 0.93 after 160 of 200 epochs, some 100 minutes of CPU time.
"""

from cluenet_jax.config import default_config, see_every_fourth_pixel


def get_config(backbone="cluenet_nano"):
    """Sized for two CPU cores; the backbone may follow the colon."""
    config = default_config("detection")
    config.model.backbone = backbone
    config.model.drop_path = 0.0
    see_every_fourth_pixel(config)
    head = config.model.mask_rcnn
    # Images have 60 % of their size, and so have objects.
    head.anchor_scale = 3
    head.neck_width = head.rpn_width = 64
    head.mask_width = 32
    head.box_width = 512
    head.rpn_samples = 128
    head.roi_samples = 128
    head.train_candidates = head.eval_candidates = 500
    head.train_proposals = head.eval_proposals = 200
    config.data.name = "coco"
    config.data.image_size = 288
    config.data.train_split = config.data.eval_split = "train2017"
    config.augment.long_side, config.augment.short_sides = 384, (288,)
    config.augment.flip_prob = 0.0
    config.detection.num_slots = 40
    config.detection.eval_scale = (384, 288)
    config.optim.batch_size = 4
    config.optim.peak_lr = 1e-3
    config.optim.weight_decay = 0.0
    config.optim.epochs = 200.0
    config.optim.warmup_epochs = 5.0
    config.optim.lr_update = "step"
    config.eval.every = 40.0
    config.eval.batch_size = 4
    config.train.log_every = 20
    return config
