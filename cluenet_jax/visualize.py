"""Draws what a network looks at.

python -m cluenet_jax.visualize --checkpoint=DIR --out=DIR image.jpg folder/ ...

For every picture OUT gets a folder with `figure.png`, overlays and `maps.npz` (all maps as
arrays); `sheet.png` is an overview of the first ones; `--report` adds `report.html`, a page
to look through without a network. Pictures in folders named as classes are known to be of
that class.
"""

import argparse
import dataclasses
import pathlib
import re
import sys
from collections.abc import Iterator

import numpy as np
from PIL import Image

from cluenet_jax import cli, explain
from cluenet_jax.data import eval_batches, load_dataset, normalize, prepare_for_test
from cluenet_jax.errors import UserError
from cluenet_jax.explain import drawing, page
from cluenet_jax.predict import read_pictures
from cluenet_jax.train import checkpoint

# Pictures of the overview.
_SHEET = 8
_IGNORED = 255


def main(argv: list[str]) -> int:
    """The command line; 1 if a picture could not be read."""
    args = _parse(argv)
    loaded = checkpoint.load(args.checkpoint)
    meta = resized(loaded.meta, args.image_size)
    out, errors = pathlib.Path(args.out), []

    def on_error(message: str) -> None:
        errors.append(message)
        print(f"Skipped: {message}", file=sys.stderr)

    if args.test_pictures:
        pictures = read_test_pictures(meta, args.test_pictures)
    else:
        pictures = _with_labels(read_pictures(args.pictures, meta, on_error), meta)
    kept, folders = [], set()
    for name, image, label in pictures:
        seen = explain.see(
            loaded.model,
            {"params": loaded.params},
            image,
            np.asarray(normalize(image, meta["mean"], meta["std"])),
            meta["class_names"],
            args.regions,
            name=name,
            label=label,
        )
        save(seen, _new_folder(out, name, folders), tuple(args.heads), args.smooth)
        if args.report or len(kept) < _SHEET:
            kept.append(seen)
    if not kept:
        raise UserError("There is no picture to draw.")
    drawing.sheet(kept[:_SHEET]).save(out / "sheet.png")
    print(f"Maps of {len(folders)} pictures: {out} (overview: {out / 'sheet.png'})")
    if args.report:
        text = _report(loaded, kept, args)
        (out / "report.html").write_text(text, encoding="utf-8")
        print(f"Report: {out / 'report.html'}")
    return 1 if errors else 0


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m cluenet_jax.visualize",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("pictures", nargs="*", help="files and folders")
    parser.add_argument("--checkpoint", required=True, help="a workdir or WORKDIR/checkpoints/STEP")
    parser.add_argument("--out", required=True, help="a folder for the results")
    parser.add_argument(
        "--test_pictures", type=int, metavar="N", help="N pictures of the network's own test set"
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
        "--scored", type=int, default=32, metavar="N", help="the report scores N pictures' maps"
    )
    parser.add_argument("--masks", help="compare with DIR/NAME.png (255: not counted)")
    args = parser.parse_args(argv)
    if bool(args.pictures) == bool(args.test_pictures):
        raise UserError("Give either pictures or --test_pictures=N.")
    for flag, value, least in (
        ("test_pictures", args.test_pictures or 1, 1),
        ("image_size", args.image_size or 1, 1),
        ("heads", min(args.heads), 0),
        ("regions", min(args.regions), 1),
        ("scored", args.scored, 0),
    ):
        if value < least:
            raise UserError(f"--{flag}={value} must be at least {least}.")
    if args.masks and not args.report:
        raise UserError("--masks is for the report: add --report.")
    if args.masks and not args.pictures:
        raise UserError("--masks is for picture files, not for --test_pictures.")
    return args


def resized(meta: dict, image_size: int | None) -> dict:
    """A checkpoint's `meta` for inputs of another size, cut in the same proportion."""
    if image_size is None:
        return meta
    margin = round(meta["test_resize"] * image_size / meta["image_size"])
    return {**meta, "image_size": image_size, "test_resize": margin}


def read_test_pictures(meta: dict, count: int | None) -> Iterator[tuple[str, np.ndarray, str]]:
    """Pictures of the test set that a network was trained for.

    Args:
      meta: Of a checkpoint.
      count: How many, spread over the set; None for all.

    Yields:
      A name, uint8 `[S, S, 3]`, the true class.
    """
    config = checkpoint.config_of(meta)
    data = config.data
    data.image_size, data.test_resize = meta["image_size"], meta["test_resize"]
    dataset = load_dataset(data.name, data.dir, data.train_split, data.test_split)
    total = len(dataset.test)
    chosen = np.linspace(0, total - 1, min(count or total, total)).astype(int)
    batches = eval_batches(_Some(dataset.test, chosen), data, batch_size=config.eval.batch_size)
    rows = (
        row
        for b in batches
        for row in zip(b["image"], b["label"], b["mask"], strict=True)
        if row[2]
    )
    for place, (image, label, _) in zip(chosen, rows, strict=True):
        yield f"{data.name}_{place}", image, dataset.class_names[label]


@dataclasses.dataclass(frozen=True)
class _Some:
    """Some records of a source."""

    source: object
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> dict:
        return self.source[int(self.places[index])]


def _with_labels(pictures: Iterator, meta: dict) -> Iterator[tuple[str, np.ndarray, str | None]]:
    for file, image in pictures:
        folder = pathlib.Path(file).parent.name
        yield file, image, folder if folder in meta["class_names"] else None


def save(seen: explain.Seen, folder: pathlib.Path, heads: tuple[int, ...], smooth: bool) -> None:
    """Writes `figure.png`, an overlay per stage and head and per K, and `maps.npz`."""
    folder.mkdir(parents=True, exist_ok=True)
    drawing.draw(seen, heads, smooth).save(folder / "figure.png")
    arrays = {"image": seen.image}
    for stage, (clusters, field) in enumerate(zip(seen.clusters, seen.fields, strict=True), 1):
        arrays[f"stage{stage}_clusters"] = clusters
        arrays[f"stage{stage}_fields"] = field
        for head in range(len(clusters)):
            index = seen.stage_map(stage, head)
            picture = Image.fromarray(drawing.overlay(seen.image, index, 224))
            picture.save(folder / f"stage{stage}_head{head}.png")
    for count, regions in seen.decisions.items():
        arrays[f"decision{count}_regions"] = regions
        arrays[f"decision{count}_drop_keep"] = seen.importance[count]
        colors = drawing.score_colors(seen.scores(count))[regions]
        picture = Image.fromarray(drawing.overlay(seen.image, regions, 224, colors))
        picture.save(folder / f"decision{count}.png")
    np.savez_compressed(folder / "maps.npz", **arrays)


def _new_folder(out: pathlib.Path, name: str, taken: set[str]) -> pathlib.Path:
    """A folder named as the picture, numbered where another picture has that name."""
    stem = re.sub(r"[^\w.-]", "_", pathlib.Path(name).stem)
    folder, number = stem, 2
    while folder in taken:
        folder, number = f"{stem}_{number}", number + 1
    taken.add(folder)
    return out / folder


def _report(loaded: checkpoint.Loaded, seen: list[explain.Seen], args: argparse.Namespace) -> str:
    meta, scores, agreement = loaded.meta, None, None
    if args.scored:
        images = np.stack([s.image for s in seen[: args.scored]])
        normal = np.asarray(normalize(images, meta["mean"], meta["std"]))
        batches = [normal[i : i + 16] for i in range(0, len(normal), 16)]
        scores = explain.evaluate_maps(loaded.model, {"params": loaded.params}, batches)
    if args.masks:
        masks = np.stack([_read_mask(args.masks, s, resized(meta, args.image_size)) for s in seen])
        regions = np.stack([s.decisions[args.regions[0]] for s in seen])
        found = explain.mask_agreement(regions, masks)
        agreement = {name: float(np.nanmean(values)) for name, values in found.items()}
    about = f"{meta['model']}, {len(meta['class_names'])} classes, from {args.checkpoint}"
    return page.report(seen, about, scores, agreement)


def _read_mask(folder: str, seen: explain.Seen, meta: dict) -> np.ndarray:
    """int32 `[H, W]`: the mask of a picture, cut as the picture was; -1 where not counted."""
    path = pathlib.Path(folder) / f"{pathlib.Path(seen.name).stem}.png"
    try:
        with Image.open(path, formats=("PNG",)) as file:
            if file.mode not in ("1", "L", "P"):
                raise UserError(f"{path}: a mask is a grey or palette PNG, not {file.mode}.")
            grey = Image.fromarray(np.asarray(file).astype(np.uint8))
    except OSError as error:
        raise UserError(f"{path}: not a readable mask ({error}).") from error
    mask = prepare_for_test(grey, meta["image_size"], meta["test_resize"], "nearest")
    return np.where(mask == _IGNORED, -1, mask.astype(np.int32))


if __name__ == "__main__":
    cli.run(main)
