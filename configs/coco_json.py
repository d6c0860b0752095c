"""Instances of your own, in COCO's JSON: boxes and masks.

    python main.py --config=configs/coco_json.py --config.data.dir=ROOT --workdir=DIR

ROOT has the images in train/ and val/, and annotations/instances_{train,val}.json or
instances_{train,val}.json; other places are named as in
--config.data.train_split=FILE.json:FOLDER. Boxes alone: --config.model.mask_rcnn.masks=False.
"""

from configs import coco_mask_rcnn


def get_config(backbone="b1"):
    """PVT's protocol at half the size; the backbone may follow the colon, as for COCO."""
    config = coco_mask_rcnn.get_config(f"{backbone},1x")
    config.data.name = "coco_json"
    config.augment.long_side, config.augment.short_sides = 672, (400,)
    config.detection.eval_scale = (672, 400)
    config.optim.warmup_epochs = 0.5
    return config
