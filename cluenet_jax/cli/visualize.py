"""Draws what a model looks at.

python -m cluenet_jax visualize --checkpoint=DIR --out=DIR image.jpg folder/ ...

For every image OUT gets a folder with `figure.png`, overlays and `maps.npz` (all maps as
arrays); `contact_sheet.png` is an overview of the first ones; `--report` adds `report.html`, to
look through without a model. Where the path of an image names its true target, such as a folder
of that name, it is shown.
"""

import argparse
import dataclasses
import pathlib
import sys

import numpy as np
from PIL import Image

from cluenet_jax import explain
from cluenet_jax.checkpoints.load import TrainedModel, load
from cluenet_jax.cli.explanations import explain_prediction, model_line
from cluenet_jax.cli.images import batched, eval_images, new_path, read_images
from cluenet_jax.data import Preprocessing
from cluenet_jax.errors import UserError
from cluenet_jax.explain import Explanation
from cluenet_jax.visualization import contact_sheet, draw_explanation, report
from cluenet_jax.visualization.colors import score_colors
from cluenet_jax.visualization.drawing import overlay

# Images of the overview.
_CONTACT_SHEET = 8
# Side of the overlays, in pixels.
_SIDE = 224
# Images at a time, for the numbers of the report.
_BATCH = 16
_IGNORED = 255


def main(argv: list[str]) -> int:
    """The command line; 1 if an image could not be read."""
    args = _parse(argv)
    trained = load(args.checkpoint)
    if args.image_size:
        trained = trained.with_image_size(args.image_size)
    out, errors = pathlib.Path(args.out), []

    def on_error(message: str) -> None:
        errors.append(message)
        print(f"Skipped: {message}", file=sys.stderr)

    if args.num_images:
        images = eval_images(trained, args.num_images)
    else:
        files = read_images(args.images, trained.preprocessing, on_error)
        images = ((file, image, trained.task.target_of_path(file)) for file, image in files)
    explanations, folders = [], set()
    for name, image, truth in images:
        explanation = explain_prediction(trained, image, args.regions, name=name, truth=truth)
        save(explanation, new_path(out, name, folders), tuple(args.heads), args.smooth)
        if args.report or len(explanations) < _CONTACT_SHEET:
            explanations.append(explanation)
    if not explanations:
        raise UserError("There is no image to draw.")
    contact_sheet(explanations[:_CONTACT_SHEET]).save(out / "contact_sheet.png")
    print(f"Maps of {len(folders)} images: {out} (overview: {out / 'contact_sheet.png'})")
    if args.report:
        text = _report(trained, explanations, args)
        (out / "report.html").write_text(text, encoding="utf-8")
        print(f"Report: {out / 'report.html'}")
    return 1 if errors else 0


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m cluenet_jax visualize",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("images", nargs="*", help="files and folders")
    parser.add_argument("--checkpoint", required=True, help="a workdir or WORKDIR/checkpoints/STEP")
    parser.add_argument("--out", required=True, help="a folder for the results")
    parser.add_argument(
        "--num_images", type=int, metavar="N", help="N images of the model's own evaluation set"
    )
    parser.add_argument(
        "--image_size", type=int, help="side in pixels; by default the one trained on"
    )
    parser.add_argument(
        "--heads", type=int, nargs="+", default=[0], help="heads of the figure, from 0"
    )
    parser.add_argument(
        "--regions", type=int, nargs="+", default=[5, 3, 8], help="K of the decision maps"
    )
    parser.add_argument(
        "--smooth", action="store_true", help="smooth decision maps as the paper's figures"
    )
    parser.add_argument("--report", action="store_true", help="also write report.html")
    parser.add_argument(
        "--num_scored", type=int, default=32, metavar="N", help="the report scores N images' maps"
    )
    parser.add_argument("--masks", help="compare with DIR/NAME.png (255: not counted)")
    args = parser.parse_args(argv)
    for flag, value, least in (
        ("num_images", args.num_images, 1),
        ("image_size", args.image_size, 1),
        ("heads", min(args.heads), 0),
        ("regions", min(args.regions), 1),
        ("num_scored", args.num_scored, 0),
    ):
        if value is not None and value < least:
            raise UserError(f"--{flag}={value} must be at least {least}.")
    if bool(args.images) == bool(args.num_images):
        raise UserError("Give either images or --num_images=N.")
    if args.masks and not args.report:
        raise UserError("--masks is for the report: add --report.")
    if args.masks and not args.images:
        raise UserError("--masks is for image files, not for --num_images.")
    return args


def save(
    explanation: Explanation, folder: pathlib.Path, heads: tuple[int, ...], smooth: bool
) -> None:
    """Writes `figure.png`, an overlay per stage and head and per K, and `maps.npz`."""
    folder.mkdir(parents=True, exist_ok=True)
    draw_explanation(explanation, heads, smooth).save(folder / "figure.png")
    image, arrays = explanation.image, {"image": explanation.image}
    stages = zip(explanation.clusters, explanation.fields, strict=True)
    for stage, (clusters, field) in enumerate(stages, 1):
        arrays[f"stage{stage}_clusters"] = clusters
        arrays[f"stage{stage}_fields"] = field
        for head in range(len(clusters)):
            index = explanation.stage_map(stage, head)
            pixels = overlay(image, index, _SIDE)
            Image.fromarray(pixels).save(folder / f"stage{stage}_head{head}.png")
    for count, regions in explanation.decisions.items():
        arrays[f"decision{count}_regions"] = regions
        arrays[f"decision{count}_drop_keep"] = explanation.importance[count]
        colors = score_colors(explanation.scores(count))[regions]
        pixels = overlay(image, regions, _SIDE, colors)
        Image.fromarray(pixels).save(folder / f"decision{count}.png")
    np.savez_compressed(folder / "maps.npz", **arrays)


def _report(
    trained: TrainedModel, explanations: list[Explanation], args: argparse.Namespace
) -> str:
    faithfulness, agreement = None, None
    if args.num_scored:
        images = [explanation.image for explanation in explanations[: args.num_scored]]
        batches = (
            np.asarray(trained.preprocessing.normalize(np.stack(batch)))
            for batch in batched(images, _BATCH)
        )
        faithfulness = explain.evaluate_explanations(
            trained.model, trained.score, trained.best_targets, trained.variables, batches
        )
    if args.masks:
        masks = [_read_mask(args.masks, e.name, trained.preprocessing) for e in explanations]
        regions = [e.decisions[args.regions[0]] for e in explanations]
        agreements = explain.mask_agreement(np.stack(regions), np.stack(masks))
        agreement = {name: float(np.nanmean(values)) for name, values in agreements.items()}
    return report(explanations, model_line(trained, args.checkpoint), faithfulness, agreement)


def _read_mask(folder: str, name: str, preprocessing: Preprocessing) -> np.ndarray:
    """int32 `[H, W]`: the mask of an image, cropped as the image was; -1 where not counted."""
    path = pathlib.Path(folder) / f"{pathlib.Path(name).stem}.png"
    try:
        with Image.open(path, formats=("PNG",)) as file:
            if file.mode not in ("1", "L", "P"):
                raise UserError(f"{path}: a mask is a gray or palette PNG, not {file.mode}.")
            gray = Image.fromarray(np.asarray(file).astype(np.uint8))
    except OSError as error:
        raise UserError(f"{path}: not a readable mask ({error}).") from error
    mask = dataclasses.replace(preprocessing, interpolation="nearest")(gray)
    return np.where(mask == _IGNORED, -1, mask.astype(np.int32))
