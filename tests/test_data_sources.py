"""Datasets: real TFDS builds without TensorFlow, the exact splits, and errors that help."""

import csv
import gzip
import hashlib
import io
import json
import pickle
import sys
import tarfile

import numpy as np
import pytest
from tensorflow_datasets.core.download.checksums import UrlInfo

from cluenet_jax.data import (
    decode_image,
    eval_batches,
    list_datasets,
    load_dataset,
    train_batches,
)
from cluenet_jax.data.builders import cifar
from cluenet_jax.data.builders.mini_imagenet import split_by_picture
from cluenet_jax.data.sources import TfdsSource
from cluenet_jax.errors import DatasetError
from tests.golden import DATA
from tests.pictures import data_config, encode, image_folder, picture


def test_digits(tmp_path):
    digits = load_dataset("digits", str(tmp_path))
    assert (len(digits.train), len(digits.test)) == (1437, 360)
    assert digits.class_names == tuple("0123456789")
    labels = [digits.test[i]["label"] for i in range(360)]
    assert np.bincount(labels).min() >= 34, "the split is stratified"
    record = pickle.loads(pickle.dumps(digits.train))[5]
    image = np.asarray(decode_image(record["image"]))
    assert image.shape == (32, 32, 3) and image.max() > 200
    assert "tensorflow" not in sys.modules
    tenth = load_dataset("digits", str(tmp_path), train_split="train[:10%]")
    assert len(tenth.train) == 144
    with pytest.raises(DatasetError, match="has no split 'exam'; it has"):
        load_dataset("digits", str(tmp_path), test_split="exam")


def cifar_archive(names_file: str, files: dict[str, np.ndarray], names: list[str]) -> bytes:
    """An archive of the published form."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        contents = {path: records.tobytes() for path, records in files.items()}
        for path, data in {**contents, names_file: "\n".join(names).encode() + b"\n\n"}.items():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_read_from_the_published_archive(name, tmp_path, monkeypatch):
    builder = {"cifar10": cifar.CluenetCifar10, "cifar100": cifar.CluenetCifar100}[name]
    classes = builder.num_classes
    rng = np.random.default_rng(0)
    files, pixels, labels = {}, {}, {}
    for split, paths in builder.files.items():
        for path in paths:
            images = rng.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
            fine = rng.integers(0, classes, 4)
            head = np.full((4, builder.label_bytes), 17, np.uint8)
            head[:, -1] = fine
            files[path] = np.concatenate(
                [head, images.transpose(0, 3, 1, 2).reshape(4, -1)], axis=1
            )
            pixels.setdefault(split, []).append(images)
            labels.setdefault(split, []).append(fine)
    archive = cifar_archive(builder.names_file, files, [f"kind{i}" for i in range(classes)])
    manual = tmp_path / "downloads" / "manual"
    manual.mkdir(parents=True)
    place = manual / f"{name.replace('cifar', 'cifar-')}-binary.tar.gz"
    place.write_bytes(archive)

    with pytest.raises(DatasetError, match="has wrong checksum"):
        load_dataset(name, str(tmp_path))
    known = UrlInfo(len(archive), hashlib.sha256(archive).hexdigest(), place.name)
    monkeypatch.setattr(builder, "url_infos", {builder.url: known})
    dataset = load_dataset(name, str(tmp_path))
    assert dataset.num_classes == classes and dataset.class_names[3] == "kind3"
    for split, source in (("train", dataset.train), ("test", dataset.test)):
        expected = {
            image.tobytes(): int(label)
            for image, label in zip(
                np.concatenate(pixels[split]), np.concatenate(labels[split]), strict=True
            )
        }
        records = [source[i] for i in range(len(source))]
        found = {np.asarray(decode_image(r["image"])).tobytes(): r["label"] for r in records}
        assert found == expected


def test_mini_imagenet_splits_exactly_as_published():
    """The published split, as a digest, from the three few-shot lists, as names without zeros."""
    with gzip.open(DATA / "mini_imagenet_lists.json.gz") as file:
        lists = json.load(file)
    rows = [(f"{label}{n:08}.jpg", label) for label, numbers in lists["rows"] for n in numbers]
    split = split_by_picture(rows)
    assert (len(split["train"]), len(split["test"])) == (48_000, 12_000)
    lines = "".join(f"{name},{label}\n" for name, label in split["test"])
    assert hashlib.sha256(lines.encode()).hexdigest() == lists["sha256_of_test"]
    assert not set(split["train"]) & set(split["test"])


def test_mini_imagenet_from_a_folder(tmp_path):
    with pytest.raises(DatasetError, match="mini_imagenet with the three few-shot lists"):
        load_dataset("mini_imagenet", str(tmp_path))
    folder = tmp_path / "downloads" / "manual" / "mini_imagenet"
    (folder / "images").mkdir(parents=True)
    for part, name in enumerate(("train.csv", "val.csv", "test.csv")):
        with (folder / name).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["filename", "label"])
            for label in range(part, 100, 3):
                for i in range(5):
                    writer.writerow([f"{label:03}_{i}.jpg", f"n{label:08}"])
                    (folder / "images" / f"{label:03}_{i}.jpg").write_bytes(
                        encode(picture(label), "JPEG")
                    )
    dataset = load_dataset("mini_imagenet", str(tmp_path))
    assert (len(dataset.train), len(dataset.test)) == (400, 100)
    record = dataset.test[7]
    image = np.asarray(decode_image(record["image"]), np.int32)
    expected = np.asarray(decode_image(encode(picture(record["label"]), "JPEG")), np.int32)
    np.testing.assert_array_equal(image, expected)


def test_ip102_from_a_folder(tmp_path):
    folder = tmp_path / "downloads" / "manual" / "ip102_v1.1"
    (folder / "images").mkdir(parents=True)
    lines = [f"{label + 1:<5}pest number {label} \n" for label in range(102)]
    (folder / "classes.txt").write_text("".join(lines))
    for part, name in enumerate(("train", "val", "test")):
        names = [f"{name}{label}.jpg {label}" for label in range(part, 102, 3)]
        (folder / f"{name}.txt").write_text("\n".join(names) + "\n")
        for line in names:
            (folder / "images" / line.split()[0]).write_bytes(encode(picture(part), "JPEG"))
    dataset = load_dataset("ip102", str(tmp_path))
    assert (len(dataset.train), len(dataset.test)) == (34, 34)
    assert dataset.class_names[5] == "pest number 5"


def test_a_list_cannot_name_a_file_elsewhere(tmp_path):
    from cluenet_jax.data.builders.mini_imagenet import picture_in

    (tmp_path / "images").mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"")
    with pytest.raises(DatasetError, match="not inside"):
        picture_in(tmp_path / "images", "../secret.jpg")
    with pytest.raises(DatasetError, match="listed, but missing"):
        picture_in(tmp_path / "images", "gone.jpg")


@pytest.mark.skipif("tensorflow" in sys.modules, reason="TensorFlow is installed here")
@pytest.mark.parametrize("name", ["food101", "caltech_birds2011"])
def test_what_needs_tensorflow_names_the_one_install(name, tmp_path):
    with pytest.raises(DatasetError, match="pip install tensorflow"):
        load_dataset(name, str(tmp_path))


def test_imagenet_says_where_its_archives_go(tmp_path):
    with pytest.raises(DatasetError, match="downloads/manual/ILSVRC2012_img_train.tar"):
        load_dataset("imagenet2012", str(tmp_path))


def test_image_folder(tmp_path):
    dataset = load_dataset("image_folder", str(image_folder(tmp_path)))
    assert dataset.class_names == ("cat", "dog")
    assert (len(dataset.train), len(dataset.test)) == (12, 6)
    assert [dataset.test[i]["label"] for i in range(6)] == [0, 0, 0, 1, 1, 1]
    assert dataset.test[4]["name"].endswith("test/dog/001.png")
    (tmp_path / "test").rename(tmp_path / "val")
    assert len(load_dataset("image_folder", str(tmp_path)).test) == 6
    (tmp_path / "val").rename(tmp_path / "exam")
    assert len(load_dataset("image_folder", str(tmp_path), test_split="exam").test) == 6


def test_image_folder_errors_name_the_folder(tmp_path):
    def refused(match: str, root=tmp_path) -> None:
        with pytest.raises(DatasetError, match=match):
            load_dataset("image_folder", str(root))

    refused("needs --config.data.dir", root="")
    refused("there is no such folder", root=tmp_path / "nowhere")
    refused("has no folder train; folders there: none")
    (tmp_path / "train").mkdir()
    refused("has no folder test or val or validation; folders there: train")
    (tmp_path / "test").mkdir()
    refused("train has no class folders")
    (tmp_path / "train" / "cat").mkdir()
    (tmp_path / "test" / "dog").mkdir()
    refused("classes that .*train lacks: dog")
    (tmp_path / "train" / "dog").mkdir()
    refused("train/cat has no pictures")


def test_unknown_datasets_get_a_suggestion():
    with pytest.raises(DatasetError, match="Did you mean 'cifar100'"):
        load_dataset("cifar-100")
    assert "image_folder" in list_datasets()


def test_image_folder_follows_no_link_out_of_it(tmp_path):
    root = image_folder(tmp_path / "root")
    outside = tmp_path / "secret.png"
    outside.write_bytes(encode(picture(1)))
    link = root / "train" / "cat" / "link.png"
    link.symlink_to(outside)
    with pytest.raises(DatasetError, match=r"link\.png is a link out of"):
        load_dataset("image_folder", str(root))
    link.unlink()
    (root / "train" / "cat" / "loop").symlink_to(root / "train" / "cat")
    (root / "train" / "cat" / "inner.png").symlink_to(root / "train" / "cat" / "000.png")
    assert len(load_dataset("image_folder", str(root)).train) == 13
    (root / "train" / "fox").symlink_to(tmp_path)
    with pytest.raises(DatasetError, match="fox is a link out of"):
        load_dataset("image_folder", str(root))


@pytest.mark.parametrize("split", ["../train", "train[:50%]", ".."])
def test_image_folder_splits_are_folder_names(split, tmp_path):
    with pytest.raises(DatasetError, match="is not the name of a folder"):
        load_dataset("image_folder", str(image_folder(tmp_path)), train_split=split)


def test_image_folder_lists_pictures_only(tmp_path):
    root = image_folder(tmp_path)
    for name in ("a.eps", "b.mpg", "c.txt"):
        (root / "train" / "cat" / name).write_bytes(b"%!PS")
    assert len(load_dataset("image_folder", str(root)).train) == 12


def test_a_file_that_disappears_is_skipped_in_training_and_named_in_a_test(tmp_path, caplog):
    root = image_folder(tmp_path / "pictures", train=4, test=4, side=8)
    dataset = load_dataset("image_folder", str(root))
    for split in ("train", "test"):
        (root / split / "dog" / "002.png").unlink()
    data = data_config(max_broken_share=0.2)
    stream = train_batches(dataset.train, data, batch_size=8, seed=0)
    assert next(stream)["image"].shape == (8, 8, 8, 3)
    stream.close()
    assert stream.broken == {6} and "train/dog/002.png: cannot be read" in caplog.text
    with pytest.raises(DatasetError, match=r"test/dog/002\.png: cannot be read \(No such file"):
        list(eval_batches(dataset.test, data, batch_size=8))


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_out_of_range_is_named(label):
    source = TfdsSource([{"image": b"", "label": label}], "birds train", num_classes=3)
    with pytest.raises(DatasetError, match=rf"birds train\[0\]: its label is {label}, the 3 .* 2"):
        source[0]


def test_a_record_that_cannot_be_read_is_named(tmp_path):
    source = TfdsSource([], "birds train", num_classes=3)
    with pytest.raises(DatasetError, match=r"birds train\[0\]: cannot be read"):
        source[0]
