"""Nuclei of the 2018 Data Science Bowl, 256x256 pixels, from scratch.

    python main.py --config=configs/nuclei.py --config.data.dir=ROOT --workdir=DIR

ROOT has train/, val/ and instances_{train,val}.json. Expected: 0.52 mask AP, 0.83 at an IoU of 0.5,
on 67 images, after 85 minutes of CPU time.
"""

from cluenet_jax.config import default_config


def get_config(backbone="cluenet_nano"):
    """The backbone may follow the colon."""
    config = default_config("detection")
    config.model.backbone = backbone
    config.model.drop_path = 0.0
    # Nuclei are 5 to 40 pixels: anchors from 16 pixels on, eight times the first level's stride.
    head = config.model.mask_rcnn
    head.neck_width = head.rpn_width = head.mask_width = 32
    head.box_width = 128
    head.rpn_samples = 256
    head.roi_samples = 128
    head.train_candidates = head.eval_candidates = 500
    head.train_proposals = head.eval_proposals = 200
    config.data.name = "coco_json"
    config.data.image_size = 256
    config.augment.long_side, config.augment.short_sides = 256, (256,)
    config.detection.num_slots = 100
    config.detection.eval_scale = (256, 256)
    config.optim.batch_size = 4
    config.optim.peak_lr = 1e-3
    config.optim.weight_decay = 0.05
    config.optim.epochs = 30.0
    config.optim.warmup_epochs = 1.0
    config.optim.lr_update = "step"
    config.eval.every = 10.0
    config.eval.batch_size = 8
    config.train.log_every = 10
    return config
