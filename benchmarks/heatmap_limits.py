"""What heatmaps that are learned perfectly give: the metrics of a pose recipe's own targets.

    python -m benchmarks.heatmap_limits --config=configs/coco_wholebody_pose.py
        --sizes=256x192,384x288 [--stride=4] [--config.data.dir=ROOT ...]

A target's peak is at a whole pixel of the heatmap, as published, so that a model which learns it
exactly places a keypoint up to two pixels of the crop off at a stride of 4. No model is run; the
boxes are the true ones, whatever `eval.boxes` says.
"""

import argparse
import functools
import sys

import jax
import numpy as np

from cluenet_jax import ops
from cluenet_jax.cli.main import run
from cluenet_jax.cli.recipes import load_recipe
from cluenet_jax.data import Example, Source, load_dataset
from cluenet_jax.errors import UserError
from cluenet_jax.tasks import create_task
from cluenet_jax.tasks.pose import Pose


def main(argv: list[str]) -> None:
    """A line for each size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=_sizes, default=[(256, 192)], help="HxW,HxW in pixels")
    parser.add_argument("--stride", type=int, default=4, help="pixels of a crop to a heatmap's")
    args, for_recipe = parser.parse_known_args(argv)
    config = load_recipe(for_recipe)
    if config.task != "pose":
        raise UserError(f"The recipe is for {config.task}; expected one for poses.")
    config.eval.boxes = ""
    data = config.data
    dataset = load_dataset(data.name, data.dir, data.eval_split, data.eval_split)
    for height, width in args.sizes:
        config.pose.crop_size = (height, width)
        metrics = limits(create_task(config, dataset.info), dataset.eval, args.stride)
        shown = {k: v for k, v in metrics.items() if k == "ap" or k.endswith(("_ap", "pck"))}
        print(f"{height}x{width}: {', '.join(f'{k} {v:.3f}' for k, v in shown.items())}")


def limits(task: Pose, images: Source, stride: int) -> dict[str, float]:
    """The metrics of the decoded targets of all evaluation images."""
    evaluator, source = task.evaluator(), task.eval_source(images)
    height, width = task.crop_size
    for index in range(len(source)):
        example = task.eval_example(source[index])
        points, visible = points_of_crop(example, task.crop_size)
        size = (height // stride, width // stride)
        places, scores = decoded_targets(points, visible, size, stride, task.config.pose.sigma)
        batch = {name: np.asarray(value)[None] for name, value in example.items()}
        predictions = {"points": np.asarray(places) * stride, "scores": np.asarray(scores)}
        evaluator.add(predictions, {**batch, "valid": np.ones(1, bool)})
    return evaluator.compute()


@functools.partial(jax.jit, static_argnames=("size", "stride", "sigma"))
def decoded_targets(
    points: jax.Array, visible: jax.Array, size: tuple[int, int], stride: int, sigma: float
) -> tuple[jax.Array, jax.Array]:
    """Where a perfect heatmap places points, in its own pixels, and their scores."""
    targets, _ = ops.heatmap_targets(points, visible, size, stride, sigma)
    return ops.decode_heatmaps(targets)


def points_of_crop(example: Example, crop_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The true points of an evaluation's example in its crop, which is not turned.

    Returns:
      float32 `[1, K, 2]`, x and y in pixels of the crop, and `[1, K]`, 1 where a point is labeled.
    """
    points = example["own"].reshape(-1, 3)
    moved = (points[:, :2] - example["center"]) / example["factor"] + np.divide(crop_size[::-1], 2)
    return np.float32(moved)[None], np.float32(points[:, 2] > 0)[None]


def _sizes(text: str) -> list[tuple[int, int]]:
    sizes = [tuple(map(int, size.split("x"))) for size in text.split(",")]
    if any(len(size) != 2 or min(size) < 1 for size in sizes):
        raise argparse.ArgumentTypeError(f"{text}: expected HxW,HxW in pixels")
    return sizes


if __name__ == "__main__":
    run(main, sys.argv[1:])
