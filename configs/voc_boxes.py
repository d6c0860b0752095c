"""Boxes of your own, in PASCAL VOC's XML: Faster R-CNN.

    python main.py --config=configs/voc_boxes.py --config.data.dir=ROOT --workdir=DIR

ROOT has JPEGImages/, Annotations/ and ImageSets/Main/{train,val}.txt, and maybe classes.txt.
"""

from configs import coco_json


def get_config(backbone="b1"):
    """As `coco_json`, without masks; the backbone may follow the colon."""
    config = coco_json.get_config(backbone)
    config.model.mask_rcnn.masks = False
    config.data.name = "voc_boxes"
    return config
