"""Draws the README's figure: three photographs, and the clusters of their pixels.

    python -m benchmarks.photographs          # writes docs/photographs.jpg

The model is the one in the package. Needs scikit-image (extra `superpixels`), whose photographs
are free to use: an astronaut (NASA, public domain), coffee (R. Michetti, CC0), a rocket (SpaceX,
public domain).
"""

import argparse
import pathlib
from collections.abc import Iterator

import numpy as np
from PIL import Image
from skimage import data

from cluenet_jax import explain
from cluenet_jax.checkpoints.load import TrainedModel, load
from cluenet_jax.pretrained import DEFAULT
from cluenet_jax.visualization.drawing import overlay

# Left, upper, right and lower border of a square, in pixels.
CROPS = {
    "astronaut": (60, 0, 400, 340),
    "coffee": (100, 0, 500, 400),
    "rocket": (110, 0, 537, 427),
}
SIDE = 224
GAP = 6
# One head of each stage, the same for all photographs.
HEADS = (0, 1, 0, 3)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", default=DEFAULT)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs/photographs.jpg"))
    args = parser.parse_args()
    trained = load(args.checkpoint).with_image_size(SIDE)
    rows = [row(trained, image) for image in photographs()]
    height, width = rows[0].shape[:2]
    figure = Image.new("RGB", (width, len(rows) * (height + GAP) - GAP), "white")
    for number, pixels in enumerate(rows):
        figure.paste(Image.fromarray(pixels), (0, number * (height + GAP)))
    figure.save(args.out, quality=88)
    print(args.out)


def photographs() -> Iterator[Image.Image]:
    """Squares of `SIDE` pixels."""
    for name, crop in CROPS.items():
        photograph = Image.fromarray(getattr(data, name)())
        yield photograph.crop(crop).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def row(trained: TrainedModel, image: Image.Image) -> np.ndarray:
    """uint8 `[h, w, 3]`: an image beside its clusters, stage by stage."""
    seen = trained.task.see(image)
    normalized = trained.preprocessing.normalize(seen)[None]
    maps = explain.compute_maps(trained.model, trained.variables, normalized)
    gap = np.full((SIDE, GAP, 3), 255, np.uint8)
    tiles = [seen]
    for head, field, clusters in zip(HEADS, maps.fields, maps.clusters, strict=True):
        index = explain.to_image_grid(field, clusters[:, head : head + 1])[0, 0]
        tiles += [gap, overlay(seen, index, SIDE)]
    return np.concatenate(tiles, axis=1)


if __name__ == "__main__":
    main()
