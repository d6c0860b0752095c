"""Your own poses: folders of images and files of COCO keypoints, of any skeleton.

    python main.py --config=configs/keypoints_json.py --config.data.dir=ROOT --workdir=DIR

ROOT has the images in train/ and val/, and keypoints_train.json and keypoints_val.json. Names and
limbs are those of their category; skeleton.json may add pairs, sigmas, upper and parts
(docs/pose.md). Not trained on a real set yet.
"""

from cluenet_jax.config import default_config, see_every_fourth_pixel


def get_config(variant="cluenet_nano,heatmap_fpn"):
    """Sized for some thousands of objects; the backbone and a head may follow the colon."""
    config = default_config("pose")
    backbone, _, head = variant.partition(",")
    config.model.backbone = backbone
    config.model.head = head or "heatmap_fpn"
    see_every_fourth_pixel(config)
    config.model[config.model.head].width = 64
    config.data.name = "keypoints_json"
    config.data.image_size = 256
    config.data.num_workers = -1
    config.pose.crop_size = (256, 192)
    config.optim.batch_size = 32
    config.optim.peak_lr = 1e-3
    config.optim.weight_decay = 0.05
    config.optim.epochs = 60.0
    config.optim.warmup_epochs = 2.0
    config.optim.lr_update = "step"
    config.eval.every = 5.0
    config.eval.batch_size = 64
    return config
