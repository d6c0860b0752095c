"""Names what is in pictures.

python -m cluenet_jax.predict --checkpoint=DIR image.jpg folder/ ...
"""

import argparse
import csv
import json
import pathlib
import sys
from collections.abc import Iterator

import jax
import numpy as np

from cluenet_jax import cli
from cluenet_jax.data import (
    decode_image,
    list_pictures,
    normalize,
    prepare_for_test,
)
from cluenet_jax.errors import ImageError, UserError
from cluenet_jax.train import checkpoint


def read_pictures(paths: list[str], meta: dict, on_error) -> Iterator[tuple[str, np.ndarray]]:
    """Decodes pictures as a network was tested on them.

    Args:
      paths: Files and folders (searched through).
      meta: Of a checkpoint: its input size and resizing.
      on_error: Called with the message for each picture that cannot be read.

    Yields:
      The file's name and uint8 `[S, S, 3]`.
    """
    for path in paths:
        files = [path]
        if pathlib.Path(path).is_dir():
            files = list_pictures(path)
            if not files:
                on_error(f"{path}: no pictures in this folder.")
        for file in files:
            try:
                image = decode_image(pathlib.Path(file).read_bytes(), file)
            except OSError as error:
                on_error(f"{file}: cannot be read ({error.strerror}).")
            except ImageError as error:
                on_error(str(error))
            else:
                yield (
                    file,
                    prepare_for_test(
                        image, meta["image_size"], meta["test_resize"], meta["interpolation"]
                    ),
                )


def predict(
    loaded: checkpoint.Loaded, pictures: Iterator[tuple[str, np.ndarray]], top_k: int, batch: int
) -> Iterator[dict]:
    """Classifies pictures, `batch` at a time.

    Yields:
      `{"file": str, "predictions": [{"class": str, "probability": float}, ...]}`, best first.
    """
    meta = loaded.meta

    @jax.jit
    def probabilities(images: jax.Array) -> jax.Array:
        normal = normalize(images, meta["mean"], meta["std"])
        return jax.nn.softmax(loaded.model.apply({"params": loaded.params}, normal))

    names = meta["class_names"]
    for group in groups(pictures, batch):
        images = np.stack([image for _, image in group])
        # One compiled program: the last group is filled up.
        filled = np.pad(images, ((0, batch - len(images)), (0, 0), (0, 0), (0, 0)))
        for (file, _), row in zip(group, np.asarray(probabilities(filled)), strict=False):
            best = np.argsort(-row, kind="stable")[:top_k]
            yield {
                "file": file,
                "predictions": [
                    {"class": names[i], "probability": round(float(row[i]), 6)} for i in best
                ],
            }


def groups(items: Iterator, size: int) -> Iterator[list]:
    """Cuts a stream into lists of `size`; the last may be shorter."""
    group = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def main(argv: list[str]) -> int:
    """The command line; 1 if a picture could not be read."""
    parser = argparse.ArgumentParser(prog="python -m cluenet_jax.predict", description=__doc__)
    parser.add_argument("pictures", nargs="+", help="files and folders")
    parser.add_argument("--checkpoint", required=True, help="a workdir or WORKDIR/checkpoints/STEP")
    parser.add_argument("--top_k", type=int, default=5, help="classes per picture")
    parser.add_argument("--format", choices=("text", "json", "csv"), default="text")
    parser.add_argument("--batch_size", type=int, default=16, help="pictures at a time")
    args = parser.parse_args(argv)
    if args.top_k < 1 or args.batch_size < 1:
        raise UserError("--top_k and --batch_size must be at least 1.")
    loaded = checkpoint.load(args.checkpoint)
    errors = []

    def on_error(message: str) -> None:
        errors.append(message)
        print(f"Skipped: {message}", file=sys.stderr)

    pictures = read_pictures(args.pictures, loaded.meta, on_error)
    results = predict(loaded, pictures, args.top_k, args.batch_size)
    if args.format == "json":
        print(json.dumps(list(results), indent=1))
    elif args.format == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(["file", "rank", "class", "probability"])
        for result in results:
            for rank, one in enumerate(result["predictions"], 1):
                writer.writerow([result["file"], rank, one["class"], one["probability"]])
    else:
        for result in results:
            print(result["file"])
            for one in result["predictions"]:
                print(f"  {one['probability']:7.2%}  {one['class']}")
    return 1 if errors else 0


if __name__ == "__main__":
    cli.run(main)
