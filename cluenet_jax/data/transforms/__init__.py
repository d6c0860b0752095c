"""Random and fixed transforms of single images on the host, while they are decoded.

Classification's take Pillow images of mode RGB, segmentation's take arrays of pixels; random draws
come from a NumPy generator.
"""

from cluenet_jax.data.transforms.color import color_jitter, photometric_distortion
from cluenet_jax.data.transforms.detection import (
    bitmaps_shape,
    draw_steps,
    is_wide,
    list_canvases,
    move_image,
    pick_canvas,
    resize_steps,
    size_after,
    truth_slots,
)
from cluenet_jax.data.transforms.geometry import (
    INTERPOLATIONS,
    random_resized_crop,
    resize,
    resize_and_center_crop,
)
from cluenet_jax.data.transforms.pose import CropGeometry, crop_of_box, draw_crop
from cluenet_jax.data.transforms.rand_augment import rand_augment
from cluenet_jax.data.transforms.resample import Window, resample_image, resample_mask
from cluenet_jax.data.transforms.segmentation import (
    Geometry,
    align_size,
    draw_geometry,
    fit_size,
    pad_bottom_right,
    pad_image,
    resize_to_fit,
)

__all__ = [
    "INTERPOLATIONS",
    "CropGeometry",
    "Geometry",
    "Window",
    "align_size",
    "bitmaps_shape",
    "color_jitter",
    "crop_of_box",
    "draw_crop",
    "draw_geometry",
    "draw_steps",
    "fit_size",
    "is_wide",
    "list_canvases",
    "move_image",
    "pad_bottom_right",
    "pad_image",
    "photometric_distortion",
    "rand_augment",
    "pick_canvas",
    "random_resized_crop",
    "resample_image",
    "resample_mask",
    "resize",
    "resize_and_center_crop",
    "resize_steps",
    "resize_to_fit",
    "size_after",
    "truth_slots",
]
