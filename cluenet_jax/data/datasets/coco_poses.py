"""Poses of persons and of the user's own objects: folders of images and files of COCO keypoints."""

import dataclasses
import functools
import json
import pathlib

from cluenet_jax.data.datasets.coco_json import find_split
from cluenet_jax.data.datasets.coco_poses_file import (
    BODY,
    WHOLE_BODY,
    PosesFile,
    read_poses_file,
)
from cluenet_jax.data.datasets.info import Opened
from cluenet_jax.data.datasets.instance_source import find_image
from cluenet_jax.data.image_files import find_root, read_image_file
from cluenet_jax.data.poses import Poses
from cluenet_jax.data.records import Record
from cluenet_jax.data.rle import Size
from cluenet_jax.data.skeletons import COCO, Skeleton
from cluenet_jax.data.skeletons import WHOLE_BODY as WHOLE_BODY_SKELETON
from cluenet_jax.errors import DatasetError

_KEYPOINTS = ("annotations/person_keypoints_{}.json",)
# The published files lack the year that the folders have.
_WHOLE_BODY = ("annotations/coco_wholebody_{}_v1.0.json",)
_OWN = ("annotations/keypoints_{}.json", "keypoints_{}.json", *_KEYPOINTS, "{}.json")
SKELETON_FILE = "skeleton.json"


@dataclasses.dataclass(frozen=True)
class PosedImages:
    """Random access to the images of one split, with their poses; see `data.poses.PoseSource`.

    Attributes:
      paths: Of the image files.
      image_ids: Of each.
      sizes: Height and width of each, as its annotations say.
      poses: Of each.
    """

    paths: tuple[str, ...]
    image_ids: tuple[int, ...]
    sizes: tuple[Size, ...]
    poses: tuple[Poses, ...]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def names(self) -> list[str]:
        """Of the files, without their folder."""
        return [pathlib.PurePath(path).name for path in self.paths]

    def __getitem__(self, index: int) -> Record:
        """`image`, `name`, `image_id`, `size` and `poses`."""
        return {
            "image": read_image_file(self.paths[index]),
            "name": self.paths[index],
            "image_id": self.image_ids[index],
            "size": self.sizes[index],
            "poses": self.poses[index],
        }


def open_coco_keypoints(data_dir: str, train_split: str = "", eval_split: str = "") -> Opened:
    """COCO 2017's persons with 17 keypoints.

    Args:
      data_dir: Folder with train2017/, val2017/ and
        annotations/person_keypoints_{train,val}2017.json, or with a folder coco that has them.
      train_split, eval_split: As for `keypoints_json`; "train2017" and "val2017" if empty.

    Raises:
      DatasetError: Names the file, folder or entry that is missing or wrong.
    """
    content = f"the images in ROOT/SPLIT/ and ROOT/{_KEYPOINTS[0].format('SPLIT')}"
    base = find_root("coco_keypoints", data_dir, content, "coco")
    splits = (train_split or "train2017", eval_split or "val2017")
    sources = [find_split(base, split, _KEYPOINTS) for split in splits]
    return _open(sources, BODY, COCO)


def open_coco_wholebody(data_dir: str, train_split: str = "", eval_split: str = "") -> Opened:
    """COCO-WholeBody V1.0: COCO 2017's images and persons with 133 keypoints.

    Args:
      data_dir: As for `coco_keypoints`, with annotations/coco_wholebody_{train,val}_v1.0.json.
      train_split, eval_split: As for `keypoints_json`; "train2017" and "val2017" if empty, whose
        files are named without the year.

    Raises:
      DatasetError: Names the file, folder or entry that is missing or wrong.
    """
    content = f"the images in ROOT/SPLIT2017/ and ROOT/{_WHOLE_BODY[0].format('SPLIT')}"
    base = find_root("coco_wholebody", data_dir, content, "coco")
    splits = (train_split or "train2017", eval_split or "val2017")
    sources = []
    for split in splits:
        patterns = (*(p.format(split.removesuffix("2017")) for p in _WHOLE_BODY), *_WHOLE_BODY)
        sources.append(find_split(base, split, patterns))
    return _open(sources, WHOLE_BODY, WHOLE_BODY_SKELETON)


def open_keypoints_json(root: str, train_split: str = "", eval_split: str = "") -> Opened:
    """The user's own poses, of any skeleton.

    Names and limbs are those of the files' category. What else a skeleton has may be in
    `skeleton.json` in `root`, see `cluenet_jax.data.skeletons.Skeleton`; without it "left_x" and
    "right_x" mirror each other, and all keypoints have the same sigma.

    Args:
      root: A folder.
      train_split, eval_split: A name, of which `keypoints_NAME.json` or `NAME.json`, also in
        annotations/, and the folder NAME, images/NAME or images are taken; or
        `FILE.json:FOLDER`, both relative to `root`. "train" and "val" if empty.

    Raises:
      DatasetError: Names the file, folder or entry that is missing or wrong.
    """
    base = find_root("keypoints_json", root, f"the images in ROOT/SPLIT/ and ROOT/{_OWN[0]}")
    splits = (train_split or "train", eval_split or "val")
    return _open([find_split(base, split, _OWN) for split in splits], BODY, None, base)


def _open(
    sources: list[tuple[pathlib.Path, pathlib.Path]],
    keys: tuple[str, ...],
    skeleton: Skeleton | None,
    base: pathlib.Path | None = None,
) -> Opened:
    count = len(skeleton) if skeleton else None
    files = [read_poses_file(file, keys, count) for file, _ in sources]
    if skeleton is None:
        first, second = (file.skeleton for file in files)
        if first is None or second is None or first.names != second.names:
            raise DatasetError(
                f"{sources[0][0]} and {sources[1][0]} differ in their keypoints; they must have "
                "the same, in the same order."
            )
        skeleton = dataclasses.replace(_with_table(first, base / SKELETON_FILE), kind=files[0].kind)
    train, evaluation = (
        _images(content, *paths, len(skeleton))
        for content, paths in zip(files, sources, strict=True)
    )
    return Opened(skeleton.names, train, evaluation, skeleton=skeleton)


def _with_table(skeleton: Skeleton, path: pathlib.Path) -> Skeleton:
    """The skeleton with what a file says besides names and limbs, if there is one."""
    if not path.is_file():
        return skeleton
    try:
        fields = json.loads(path.read_bytes())
        table = Skeleton.from_json({**skeleton.to_json(), **fields})
        table.check()
    except (OSError, ValueError, TypeError) as error:
        raise DatasetError(f"{path}: not the table of a skeleton ({error}).") from error
    if table.names != skeleton.names:
        raise DatasetError(f"{path}: its names are not those of the annotations' keypoints.")
    return table


def _images(
    content: PosesFile, file: pathlib.Path, folder: pathlib.Path, num_keypoints: int
) -> PosedImages:
    if not content.images:
        raise DatasetError(f"{file} has no images.")
    nothing = functools.partial(Poses.of_rows, [], num_keypoints)
    return PosedImages(
        tuple(
            find_image(folder, image.file_name, f"{file}: image {key}")
            for key, image in content.images.items()
        ),
        tuple(content.images),
        tuple(image.size for image in content.images.values()),
        tuple(content.poses.get(key) or nothing() for key in content.images),
    )
