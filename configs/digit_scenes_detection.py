"""Instance detection without a download: scenes of scanned digits, with boxes and masks.

    python main.py --config=configs/digit_scenes_detection.py
    python main.py --config=configs/digit_scenes_detection.py:clustr_nano

Expected: at least 0.85 box AP and 0.85 mask AP on the 200 test scenes, in 5 minutes of CPU time.
"""

from cluenet_jax.config import default_config, see_every_fourth_pixel


def get_config(backbone="cluenet_nano"):
    """Sized for a laptop; the backbone may follow the colon."""
    config = default_config("detection")
    config.model.backbone = backbone
    config.model.drop_path = 0.0
    # A digit is 24 to 32 pixels: anchors of 32 need a first level of stride 4.
    see_every_fourth_pixel(config)
    head = config.model.mask_rcnn
    head.neck_width = head.rpn_width = head.mask_width = 32
    head.box_width = 128
    head.rpn_samples = 64
    head.roi_samples = 32
    head.train_candidates = head.eval_candidates = 100
    head.train_proposals = head.eval_proposals = 32
    head.max_detections = 16
    config.data.name = "digit_scenes"
    config.data.image_size = 64
    config.augment.long_side = 64
    config.augment.short_sides = (64,)
    # A mirrored digit is none.
    config.augment.flip_prob = 0.0
    config.detection.num_slots = 4
    config.detection.eval_scale = (64, 64)
    config.optim.batch_size = 16
    config.optim.peak_lr = 2e-3
    config.optim.weight_decay = 0.05
    config.optim.epochs = 8.0
    config.optim.warmup_epochs = 0.5
    config.optim.lr_update = "step"
    config.eval.every = 2.0
    config.eval.batch_size = 40
    config.train.log_every = 10
    return config
