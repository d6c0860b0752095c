"""Draws what a model looks at.

python -m cluenet_jax visualize [--checkpoint=DIR] --out=DIR image.jpg folder/ ...

For every image OUT gets a folder with `figure.png`, overlays and `maps.npz` (all maps as
arrays); `contact_sheet.png` is an overview of the first ones; `--report` adds `report.html`, to
look through without a model. Of a model that detects objects each folder also gets
`instances.json`, how well the clusters agree with the best objects' masks, and `instances.png`,
the clusters inside these; of a model of poses `keypoints.png` and `keypoints.json`, the clusters
that each keypoint is in. Where the path of an image names its true target, such as a folder
of that name, it is shown.
"""

import argparse
import json
import pathlib
import time
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from cluenet_jax import explain
from cluenet_jax.checkpoints.load import TrainedModel, load
from cluenet_jax.cli.checkpoints import OPTIONAL_CHECKPOINT_HELP, checkpoint_or_default
from cluenet_jax.cli.explanations import explain_prediction, model_line, normalized_batches
from cluenet_jax.cli.images import eval_records, new_path, read_images
from cluenet_jax.data import Example
from cluenet_jax.errors import UserError
from cluenet_jax.explain import Explanation
from cluenet_jax.progress import bar, say_beside_bars
from cluenet_jax.tasks.base import Task
from cluenet_jax.visualization import (
    contact_sheet,
    draw_explanation,
    draw_instances,
    draw_keypoints,
    report,
)
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
    args.checkpoint = checkpoint_or_default(args.checkpoint)
    trained = load(args.checkpoint)
    if args.image_size:
        trained = trained.with_image_size(args.image_size)
    out, errors, begin = pathlib.Path(args.out), [], time.perf_counter()

    def on_error(message: str) -> None:
        errors.append(message)
        say_beside_bars(f"Skipped: {message}")

    explanations, folders = [], set()
    comparison, detected = explain.PartitionComparison(), explain.InstanceComparison()
    for name, example, truth, mask in _labeled_examples(trained, args, on_error):
        explanation = explain_prediction(
            trained,
            example,
            args.regions,
            name=name,
            truth=truth,
            num_instances=args.num_instances,
        )
        folder = new_path(out, name, folders)
        save(explanation, folder, tuple(args.heads), args.smooth)
        if mask is not None:
            comparison.add(_partitions(explanation, args.regions[0]), mask)
        if explanation.least_score is not None and args.num_instances:
            _save_instances(explanation, folder, args, detected)
        if args.report or len(explanations) < _CONTACT_SHEET:
            explanations.append(explanation)
    if not explanations:
        raise UserError("There is no image to draw.")
    contact_sheet(explanations[:_CONTACT_SHEET]).save(out / "contact_sheet.png")
    seconds = time.perf_counter() - begin
    print(
        f"Maps of {len(folders)} image{'s' * (len(folders) != 1)} in {seconds:.0f} s: {out} "
        f"(overview: {out / 'contact_sheet.png'})"
    )
    if explanations[0].least_score is not None and args.num_instances:
        print(detected.to_text())
    if args.report:
        text = _report(trained, explanations, comparison, args)
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
    parser.add_argument("--checkpoint", help=OPTIONAL_CHECKPOINT_HELP)
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
    parser.add_argument(
        "--num_instances",
        type=int,
        default=4,
        metavar="N",
        help="the clusters of the N best objects that are detected in an image; 0: of none",
    )
    parser.add_argument("--masks", help="compare with DIR/NAME.png (255: not counted)")
    args = parser.parse_args(argv)
    for flag, value, least in (
        ("num_images", args.num_images, 1),
        ("image_size", args.image_size, 1),
        ("heads", min(args.heads), 0),
        ("regions", min(args.regions), 1),
        ("num_scored", args.num_scored, 0),
        ("num_instances", args.num_instances, 0),
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
    if explanation.keypoints:
        arrays["keypoints"] = np.array([row[1:] for row in explanation.keypoints], np.float32)
        draw_keypoints(explanation, heads).save(folder / "keypoints.png")
        rows = explain.clusters_of_keypoints(explanation)
        (folder / "keypoints.json").write_text(json.dumps(rows, indent=1) + "\n")
    if explanation.instances:
        arrays["instance_masks"] = np.stack([instance.mask for instance in explanation.instances])
        arrays["instance_boxes"] = np.stack([instance.box for instance in explanation.instances])
    np.savez_compressed(folder / "maps.npz", **arrays)


def _save_instances(
    explanation: Explanation,
    folder: pathlib.Path,
    args: argparse.Namespace,
    comparison: explain.InstanceComparison,
) -> None:
    """Writes `instances.json` and, where there are any, `instances.png`; counts them."""
    if explanation.note:
        print(f"{explanation.name}: {explanation.note}")
    instances, partitions = explanation.instances, {}
    if instances:
        partitions = _partitions(explanation, args.regions[0])
        draw_instances(explanation, tuple(args.heads)).save(folder / "instances.png")
    agreements = comparison.add(partitions, instances, len(explanation.entries))
    numbers = {
        "least_score": explanation.least_score,
        "num_detected": len(explanation.entries),
        "instances": [
            {
                "name": instance.name,
                "score": round(instance.score, 6),
                "box": np.round(instance.box.astype(float), 3).tolist(),
                "pixels": int(instance.mask.sum()),
                "agreement": agreement,
            }
            for instance, agreement in zip(instances, agreements, strict=True)
        ],
    }
    (folder / "instances.json").write_text(json.dumps(numbers, indent=1) + "\n")


def _labeled_examples(
    trained: TrainedModel, args: argparse.Namespace, on_error: Callable[[str], None]
) -> Iterator[tuple[str, Example, str | None, np.ndarray | None]]:
    """Name, example, the name of its true target and, for a report, its mask; None if not known."""
    task = trained.task
    if args.num_images:
        for name, record in eval_records(trained, args.num_images):
            mask = task.mask_of_record(record) if args.report else None
            yield name, task.example_of_record(record), task.target_of_record(record), mask
    for file, image in bar(read_images(args.images, on_error), "Images"):
        mask = _read_mask(args.masks, file, task) if args.masks else None
        yield file, task.unlabeled_example(image), task.target_of_path(file), mask


def _partitions(explanation: Explanation, count: int) -> dict[str, np.ndarray]:
    partitions = explain.partitions_to_compare(
        explanation.image, explanation.clusters, explanation.fields
    )
    return {**partitions, f"decision, K = {count}": explanation.decisions[count]}


def _report(
    trained: TrainedModel,
    explanations: list[Explanation],
    comparison: explain.PartitionComparison,
    args: argparse.Namespace,
) -> str:
    faithfulness = None
    if args.num_scored:
        images = [explanation.image for explanation in explanations[: args.num_scored]]
        batches = normalized_batches(trained, images, _BATCH)
        faithfulness = explain.evaluate_explanations(
            trained.model, trained.score, trained.best_targets, trained.variables, batches
        )
    line = model_line(trained, args.checkpoint)
    return report(explanations, line, faithfulness, comparison.compute())


def _read_mask(folder: str, name: str, task: Task) -> np.ndarray:
    """int32 `[H, W]`: the mask of an image as the model saw it; -1 where not counted."""
    path = pathlib.Path(folder) / f"{pathlib.Path(name).stem}.png"
    try:
        with Image.open(path, formats=("PNG",)) as file:
            if file.mode not in ("1", "L", "P"):
                raise UserError(f"{path}: a mask is a gray or palette PNG, not {file.mode}.")
            gray = Image.fromarray(np.asarray(file).astype(np.uint8))
    except OSError as error:
        raise UserError(f"{path}: not a readable mask ({error}).") from error
    mask = task.see_mask(gray)
    return np.where(mask == _IGNORED, -1, mask.astype(np.int32))
