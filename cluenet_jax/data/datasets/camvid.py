"""CamVid: 701 street scenes in 11 classes, in SegNet's version.

Source: G. Brostow et al., Semantic Object Classes in Video, 2009; classes, split and size of
V. Badrinarayanan et al., SegNet, 2017.
"""

from cluenet_jax.data.datasets.info import Opened
from cluenet_jax.data.datasets.mask_folder import CONTENT, Classes, open_splits
from cluenet_jax.data.decode_mask import IGNORED, MaskFormat
from cluenet_jax.data.image_files import find_root

# With the colors of CamVid's own masks.
CLASSES = {
    "Sky": (128, 128, 128),
    "Building": (128, 0, 0),
    "Pole": (192, 192, 128),
    "Road": (128, 64, 128),
    "Pavement": (0, 0, 192),
    "Tree": (128, 128, 0),
    "SignSymbol": (192, 128, 128),
    "Fence": (64, 64, 128),
    "Car": (64, 0, 128),
    "Pedestrian": (64, 64, 0),
    "Bicyclist": (0, 128, 192),
}
# Value 11 is CamVid's Void.
_FORMAT = MaskFormat((*range(len(CLASSES)), IGNORED), (*CLASSES.values(), (0, 0, 0)))


def open_camvid(data_dir: str, train_split: str = "", eval_split: str = "") -> Opened:
    """367 images to train on and 233 to test on; 101 more are the split "val".

    Args:
      data_dir: Folder with images/{train,val,test} and annotations/{train,val,test}, or with a
        folder camvid that has them. Masks hold 0 .. 10, and 11 where nothing is counted.
      train_split, eval_split: Names of these folders; "train" and "test" if empty.

    Raises:
      DatasetError: Names the folder or file that is missing.
    """
    base = find_root("camvid", data_dir, CONTENT, "camvid")
    classes = Classes((*CLASSES,), (*CLASSES.values(),), _FORMAT)
    return open_splits(base, classes, (train_split or "train",), (eval_split or "test",))
