"""Draws docs/clusters.png: pictures, and the clusters that a network puts their pixels in.

    python docs/draw_clusters.py --checkpoint=runs/cifar10 --config=configs/cifar10.py

Each row is a test picture and, for the four stages, the cluster of each pixel in the first head.
"""

import sys

import jax
import numpy as np
from absl import app, flags
from ml_collections import config_flags
from PIL import Image

from cluenet_jax import cli
from cluenet_jax.data import eval_batches, load_dataset, normalize
from cluenet_jax.train import checkpoint

_CONFIG = config_flags.DEFINE_config_file("config", None, "The recipe whose test set is shown.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "A workdir.")
_OUT = flags.DEFINE_string("out", "docs/clusters.png", "The file to write.")
_COUNT = flags.DEFINE_integer("count", 6, "Pictures to show, spread over the test set.")

SIDE, GAP = 128, 6
# Okabe and Ito's colours, which colour-blind readers tell apart, in two brightnesses.
_COLORS = np.array(
    [
        (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66),
        (0, 114, 178), (213, 94, 0), (204, 121, 167), (120, 120, 120),
    ]
)  # fmt: skip
COLORS = np.concatenate([_COLORS, _COLORS // 2])


def enlarge(pixels: np.ndarray) -> np.ndarray:
    image = Image.fromarray(pixels.astype(np.uint8))
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.NEAREST))


def main(argv: list[str]) -> None:
    del argv
    cli.quiet()
    data = _CONFIG.value.data
    dataset = load_dataset(data.name, data.dir, data.train_split, data.test_split)
    loaded = checkpoint.load(_CHECKPOINT.value)
    shown = np.linspace(0, len(dataset.test) - 1, _COUNT.value).astype(int)
    sample = [dataset.test[int(i)] for i in shown]
    (batch,) = eval_batches(sample, data, batch_size=_COUNT.value)
    images = normalize(batch["image"], loaded.meta["mean"], loaded.meta["std"])
    _, maps = jax.jit(lambda x: loaded.model.apply({"params": loaded.params}, x, return_maps=True))(
        images
    )
    rows = []
    for i, picture in enumerate(batch["image"]):
        cells = [enlarge(picture)]
        for stage in range(1, 5):
            index = np.asarray(maps[f"stage{stage}/assignment"])[i, 0]
            cells.append(enlarge(COLORS[index % len(COLORS)]))
        rows.append(np.concatenate([np.pad(c, ((0, GAP), (0, GAP), (0, 0)), constant_values=255)
                                    for c in cells], axis=1))  # fmt: skip
    half = len(rows) // 2
    sheet = np.concatenate([np.concatenate(rows[:half]), np.concatenate(rows[half:])], axis=1)
    Image.fromarray(sheet).save(_OUT.value)


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "checkpoint"])
    sys.exit(app.run(main))
