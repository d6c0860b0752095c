"""Results for image files: `python -m cluenet_jax predict [--checkpoint=DIR] image.jpg folder/`.

A model of single objects, such as one of poses, takes a whole image as one; with
`--detector=DIR`, the checkpoint of a model that finds them, each that is found.
"""

import argparse
import csv
import json
import pathlib
import sys
from collections.abc import Iterable

import numpy as np
from PIL import Image

from cluenet_jax.checkpoints.load import TrainedModel, load
from cluenet_jax.cli.checkpoints import OPTIONAL_CHECKPOINT_HELP, checkpoint_or_default
from cluenet_jax.cli.images import new_path, read_images
from cluenet_jax.data import Example
from cluenet_jax.errors import UserError
from cluenet_jax.progress import say_beside_bars
from cluenet_jax.tasks.base import Result


def main(argv: list[str]) -> int:
    """The command line; 1 if an image could not be read."""
    args = _parse(argv)
    trained = load(checkpoint_or_default(args.checkpoint))
    errors = []

    def on_error(message: str) -> None:
        errors.append(message)
        say_beside_bars(f"Skipped: {message}")

    images = read_images(args.images, on_error)
    if args.detector:
        detector = load(args.detector)
        results = predict_regions(trained, detector, images, args.least_score, args.batch_size)
    else:
        results = predict_files(trained, images, args.batch_size)
    if args.out:
        results = _drawn(trained, results, pathlib.Path(args.out))
    _print(((file, result) for file, _, result in results), args.format, args.max_entries)
    return 1 if errors else 0


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m cluenet_jax predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("images", nargs="+", help="files and folders")
    parser.add_argument("--checkpoint", help=OPTIONAL_CHECKPOINT_HELP)
    parser.add_argument("--max_entries", type=int, default=5, help="entries per image, best first")
    parser.add_argument("--format", choices=("text", "json", "csv"), default="text")
    parser.add_argument("--batch_size", type=int, default=16, help="images at a time")
    parser.add_argument(
        "--out", help="a folder for the images with their results drawn on them, and for masks"
    )
    parser.add_argument("--detector", help="the checkpoint of a model that finds the objects")
    parser.add_argument(
        "--least_score", type=float, default=0.3, help="of the detector's objects, 0 .. 1"
    )
    args = parser.parse_args(argv)
    if args.max_entries < 1 or args.batch_size < 1:
        raise UserError("--max_entries and --batch_size must be at least 1.")
    if not 0 <= args.least_score <= 1:
        raise UserError(f"--least_score={args.least_score} must be within 0 .. 1.")
    return args


def predict_files(
    trained: TrainedModel, images: Iterable[tuple[str, Image.Image]], batch_size: int
) -> Iterable[tuple[str, np.ndarray, Result]]:
    """Name, image to draw on, and result of each named image."""
    files = []

    def examples() -> Iterable[Example]:
        for file, image in images:
            example = trained.task.unlabeled_example(image)
            files.append((file, trained.task.shown_image(image, example)))
            yield example

    for result in trained.predict(examples(), batch_size):
        yield (*files.pop(0), result)


def predict_regions(
    trained: TrainedModel,
    detector: TrainedModel,
    images: Iterable[tuple[str, Image.Image]],
    least_score: float,
    batch_size: int,
) -> Iterable[tuple[str, np.ndarray, Result]]:
    """Name, image to draw on, and result of each named image, of all that a detector finds there.

    Raises:
      UserError: The model is of whole images, or the detector does not know its objects.
    """
    task, known = trained.task, detector.task.target_names
    if not task.region_kind:
        raise UserError(f"--detector is for models of single objects; this one does {task.name}.")
    if task.region_kind not in known:
        raise UserError(
            f"The detector knows no {task.region_kind!r}, which the model is of; it knows "
            f"{', '.join(known[:10])}."
        )
    for file, image in images:
        (detected,) = detector.predict([detector.task.unlabeled_example(image)], batch_size=1)
        try:
            regions = detected.regions(task.region_kind, least_score)
        except UserError as error:
            raise UserError(f"--detector: its model {error}") from error
        examples = [task.region_example(image, box, score) for box, score in regions]
        results = [*trained.predict(examples, batch_size)]
        yield file, np.asarray(image), task.merge(results, image.size[::-1])


def _drawn(
    trained: TrainedModel, results: Iterable[tuple[str, np.ndarray, Result]], out: pathlib.Path
) -> Iterable[tuple[str, np.ndarray, Result]]:
    taken: set[str] = set()
    for file, image, result in results:
        path = new_path(out, file, taken)
        path.parent.mkdir(parents=True, exist_ok=True)
        images = {"": trained.task.draw(Image.fromarray(image), result), **result.images()}
        for ending, drawn in images.items():
            drawn.save(path.with_name(f"{path.name}{ending}.png"))
        yield file, image, result


def _print(results: Iterable[tuple[str, Result]], form: str, max_entries: int) -> None:
    if form == "json":
        rows = [{"file": file, **result.to_json(max_entries)} for file, result in results]
        print(json.dumps(rows, indent=1))
        return
    writer = None
    for file, result in results:
        if form == "text":
            print(f"{file}\n{result.to_text(max_entries)}")
            continue
        for row in result.to_rows(max_entries):
            if writer is None:
                writer = csv.DictWriter(sys.stdout, ["file", *row], lineterminator="\n")
                writer.writeheader()
            writer.writerow({"file": file, **row})
