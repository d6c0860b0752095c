"""VOC's files of boxes: corners, classes, difficult objects, and errors that name the object."""

import numpy as np
import pytest

from cluenet_jax.data import decode_instances, load_dataset
from cluenet_jax.errors import DatasetError, ImageError
from tests.helpers.images import encode, smooth_image

OBJECT = (
    "<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{0}</xmin>"
    "<ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox></object>"
)
SIZE = "<size><width>64</width><height>48</height><depth>3</depth></size>"


def xml(*objects):
    return f"<annotation>{SIZE}{''.join(objects)}</annotation>"


def box(*corners, name="cell", difficult=0):
    return OBJECT.format(*corners, name=name, difficult=difficult)


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "root"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    objects = {
        "a": [box(1, 1, 64, 48), box(5, 6, 20, 9, name="virus", difficult=1)],
        "b": [box(3, 4, 3, 9), box(2.5, 3, 10, 11, name="blob")],
        "c": [],
    }
    for name, image_objects in objects.items():
        image = encode(smooth_image(0, 64, 48), "JPEG")
        (root / "JPEGImages" / f"{name}.jpg").write_bytes(image)
        (root / "Annotations" / f"{name}.xml").write_text(xml(*image_objects))
    (root / "ImageSets" / "Main" / "train.txt").write_text("a\nb\n\nc\n")
    (root / "ImageSets" / "Main" / "val.txt").write_text("c  1\na -1\n")
    return root


def load(root, **splits):
    return load_dataset("voc_boxes", str(root), **splits)


def test_records_hold_the_boxes(root):
    dataset = load(root)
    assert dataset.info.class_names == ("blob", "cell", "virus")
    assert (len(dataset.train), len(dataset.eval)) == (2, 2)
    record = dataset.eval[1]
    assert record.keys() == {"image", "name", "image_id", "size", "instances"}
    image, instances = decode_instances(record)
    assert image.shape == (48, 64, 3) and record["image_id"] == 1
    # The first and last pixels are 1 and 64: the whole image.
    np.testing.assert_array_equal(instances.boxes, [(0, 0, 64, 48), (4, 5, 20, 9)])
    np.testing.assert_array_equal(instances.labels, [1, 2])
    np.testing.assert_array_equal(instances.areas, [64 * 48, 16 * 4])
    assert len(dataset.eval[0]["instances"]) == 0


def test_difficult_objects_are_kept_apart_like_crowds(root):
    dataset = load(root)
    assert dataset.eval[1]["instances"].crowd.tolist() == [False, True]
    assert dataset.train[0]["instances"].labels.tolist() == [1]


def test_boxes_without_area_are_dropped(root):
    np.testing.assert_array_equal(load(root).train[1]["instances"].boxes, [(1.5, 2, 10, 11)])


def test_there_are_no_masks(root):
    record = load(root).train[0]
    with pytest.raises(ImageError, match=r"a\.jpg: 1 of 1 instances have a box and no mask; learn"):
        record["instances"].check_masks(record["name"])


def test_classes_may_be_listed(root):
    (root / "classes.txt").write_text("virus\ncell\nblob\nnone\n")
    dataset = load(root)
    assert dataset.info.class_names == ("virus", "cell", "blob", "none")
    assert dataset.train[0]["instances"].labels.tolist() == [1]
    (root / "classes.txt").write_text("cell\n")
    with pytest.raises(DatasetError, match=r"classes\.txt lacks classes of .*: blob, virus; add"):
        load(root)


def test_published_folders_and_other_formats_are_found(root):
    png = encode(smooth_image(0, 64, 48))
    (root / "JPEGImages" / "a.jpg").unlink()
    (root / "JPEGImages" / "a.png").write_bytes(png)
    root.rename(root.parent / "VOC2012")
    assert load(root.parent).eval[1]["name"].endswith("VOC2012/JPEGImages/a.png")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"<annotation>{box(1, 1, 9, 9)}</annotation>", "<size><height> is missing; it is a finit"),
        (xml().replace(">64<", ">wide<"), "<size><width> is 'wide'; it is a finite number"),
        (xml().replace(">64<", ">0<"), "size 0x48; sides are at least 1"),
        (xml(box(1, 1, 9, "nan")), "object 0: <bndbox><ymax> is 'nan'; it is a finite number"),
        (xml(box(1, 1, 9, 9), "<object/>"), "object 1 has no name; each object has the name"),
        (xml("<object><name>cell</name></object>"), "object 0: <bndbox><xmin> is missing"),
        (xml(box(1, 1, 9, 9))[:90], "not a whole XML file"),
        ("", "not a whole XML file"),
        ('<!DOCTYPE a [<!ENTITY b "c">]>' + xml(), "defines entities, which VOC's files do not"),
        (None, "cannot be read .No such file"),
    ],
)
def test_bad_annotations_are_refused(root, text, message):
    path = root / "Annotations" / "c.xml"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(DatasetError, match=rf"c\.xml:? ?.*{message}"):
        load(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\nb\na\n", r"val\.txt: images named twice: a\."),
        ("\n", r"val\.txt names no images; it holds a name per line"),
        ("d\n", r"val\.txt: .*JPEGImages/d\.jpg is missing; images belong into"),
        ("../a\n", r"val\.txt: '\.\./a\.jpg' is not inside of"),
        (b"caf\xe9\n", r"val\.txt: cannot be read .not UTF-8"),
        (None, r"'val': there is no file .*val\.txt; splits there: train"),
    ],
)
def test_bad_lists_are_refused(root, text, message):
    path = root / "ImageSets" / "Main" / "val.txt"
    path.unlink()
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DatasetError, match=message):
        load(root)


def test_missing_roots_are_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"voc_boxes needs .*ROOT/JPEGImages/NAME\.jpg"):
        load("")
    with pytest.raises(DatasetError, match="there is no such folder"):
        load(tmp_path / "nowhere")
