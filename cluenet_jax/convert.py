"""Published PyTorch weights to an Orbax checkpoint.

python -m cluenet_jax.convert SOURCE TARGET --model=cluenet_tiny
"""

import argparse
import json
import pathlib

from cluenet_jax import cli
from cluenet_jax.config import default_config
from cluenet_jax.data import list_datasets, normalization
from cluenet_jax.errors import UserError
from cluenet_jax.models import create_model
from cluenet_jax.train import checkpoint
from cluenet_jax.train.storage import absolute
from cluenet_jax.weights import from_torch, read_state_dict


def convert(
    source: str,
    target: str,
    model: str,
    options: dict[str, object] | None = None,
    dataset: str = "",
    image_size: int = 0,
    class_names: list[str] | None = None,
) -> None:
    """Writes a checkpoint that every tool loads.

    Args:
      source: A file of `cluenet_jax.weights.read_state_dict`.
      target: A new folder.
      model: A name of `list_models()`.
      options: Options of the model that differ from its variant's.
      dataset: What it was trained on, for the normalisation: CIFAR-100 for
        `cluenet_mini_cifar`, else ImageNet's, if left out.
      image_size: Side of its square images; 32 or 224 if left out.
      class_names: By label; numbers if left out.

    Raises:
      UserError: The file cannot be read or does not fit the model, or `target`
        is not empty.
    """
    folder = absolute(target)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{target} is not empty; give a new folder.")
    weights = read_state_dict(source)
    if "head.weight" not in weights:
        raise UserError(f"{source}: has no tensor head.weight, so its classes are not known.")
    classes = len(weights["head.weight"])
    if class_names and len(class_names) != classes:
        raise UserError(f"{len(class_names)} class names for a network of {classes} classes.")
    try:
        network = create_model(model, classes, **(options or {}))
        params = from_torch(weights, network)["params"]
    except (ValueError, TypeError) as error:
        raise UserError(f"{source}: {error}") from error

    small = model == "cluenet_mini_cifar"
    config = default_config()
    config.model.name = model
    config.data.name = dataset or ("cifar100" if small else "mini_imagenet")
    config.data.image_size = image_size or (32 if small else 224)
    if config.data.image_size > 64:
        config.data.test_resize = round(config.data.image_size * 256 / 224)
        config.data.interpolation = "lanczos"
    mean, std = normalization(config.data.name)
    meta = checkpoint.describe(
        config, class_names or [str(label) for label in range(classes)], mean, std
    )
    meta["options"] = options or {}
    checkpoint.save_params(target, params, meta)


def main(argv: list[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m cluenet_jax.convert", description=__doc__)
    parser.add_argument("source", help=".pth (needs torch), .safetensors or .npz")
    parser.add_argument("target", help="a new folder")
    parser.add_argument("--model", required=True, help="such as cluenet_tiny")
    parser.add_argument("--options", default="{}", help="options of the model that differ, as JSON")
    parser.add_argument("--dataset", default="", help="what it was trained on")
    parser.add_argument("--image_size", type=int, default=0, help="side in pixels")
    parser.add_argument("--class_names", help="a text file, one name a line")
    args = parser.parse_args(argv)
    if args.dataset and args.dataset not in list_datasets():
        raise UserError(f"--dataset={args.dataset}: known are {', '.join(list_datasets())}.")
    names = None
    if args.class_names:
        file = pathlib.Path(args.class_names)
        if not file.is_file():
            raise UserError(f"--class_names={file}: there is no such file.")
        names = [line.strip() for line in file.read_text().splitlines() if line.strip()]
    try:
        given = json.loads(args.options)
    except json.JSONDecodeError as error:
        raise UserError(f"--options={args.options}: not JSON ({error}).") from error
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    convert(args.source, args.target, args.model, options, args.dataset, args.image_size, names)
    print(f"Checkpoint: {args.target}")


if __name__ == "__main__":
    cli.run(main)
