"""A toy task, to prove that a task is one file: regression of the mean color of an image."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from PIL import ImageOps

import cluenet_jax
from cluenet_jax.cli import train
from cluenet_jax.config import default_config
from cluenet_jax.data import Preprocessing, decode_image
from cluenet_jax.models import Model
from cluenet_jax.tasks import TASKS, base


class Head(nn.Module):
    @nn.compact
    def __call__(self, levels, train=False):
        return nn.sigmoid(nn.Dense(3)(levels[-1].mean((1, 2))))


@dataclasses.dataclass(frozen=True)
class Color(base.Result):
    rgb: np.ndarray

    def entries(self):
        return list(zip(("red", "green", "blue"), map(float, self.rgb), strict=True))


class Closeness(base.Evaluator):
    def __init__(self):
        self.errors = []

    def add(self, predictions, batch):
        self.errors += [*np.abs(predictions["rgb"] - batch["color"]).mean(1)[batch["valid"]]]

    def compute(self):
        return {"closeness": 1 - float(np.mean(self.errors)), "count": float(len(self.errors))}


@dataclasses.dataclass(frozen=True)
class MeanColor(base.Task):
    name, best_metric, train_metrics = "mean_color", "closeness", ("loss",)
    preprocessing: Preprocessing

    def default_config():
        return {}

    def create(config, info):
        size = config.data.image_size
        return MeanColor(Preprocessing(size, 0, "bilinear", info.mean, info.std))

    def build_model(self):
        sizes = dict(dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), head_dim=8)
        return Model(cluenet_jax.create_backbone("cluenet_nano", **sizes), Head())

    def eval_example(self, record):
        image = self.preprocessing(decode_image(record["image"]))
        return {"image": image, "color": image.mean((0, 1), dtype=np.float32) / 255}

    def example_spec(self):
        image = jax.ShapeDtypeStruct(self.preprocessing.shape, jnp.uint8)
        return {"image": image, "color": jax.ShapeDtypeStruct((3,), jnp.float32)}

    def loss(self, apply, batch):
        errors = ((apply(batch["image"]) - batch["color"]) ** 2).sum(-1)
        return errors.mean(), {"loss": (errors.sum(), jnp.float32(errors.size))}

    def predict(self, apply, batch):
        return {"rgb": apply(self.preprocessing.normalize(batch["image"]))}

    evaluator = staticmethod(Closeness)

    def to_results(self, predictions):
        return [Color(row) for row in predictions["rgb"]]

    def draw(self, image, result):
        return ImageOps.expand(image, 4, tuple(round(255 * float(v)) for v in result.rgb))


TASKS[MeanColor.name] = MeanColor

if __name__ == "__main__":
    config = default_config("mean_color")
    config.data.update(dict(name="image_folder", dir=sys.argv[1], image_size=16))
    config.optim.update(dict(batch_size=8, epochs=4.0, warmup_epochs=1.0, peak_lr=5e-3))
    config.eval.batch_size, config.train.log_every = 8, 1
    config.checkpoint.update(dict(every=0.4, keep_latest=9))
    train.run(train.train, config, sys.argv[2])
