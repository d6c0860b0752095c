"""CIFAR from archives of the published form, checksums and all."""

import hashlib
import io
import tarfile

import numpy as np
import pytest
from tensorflow_datasets.core.download.checksums import UrlInfo

from cluenet_jax.data import decode_image, load_dataset
from cluenet_jax.data.datasets import cifar
from cluenet_jax.errors import DatasetError


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
    path = manual / f"{name.replace('cifar', 'cifar-')}-binary.tar.gz"
    path.write_bytes(archive)

    with pytest.raises(DatasetError, match=f"{name} could not be .* has wrong checksum"):
        load_dataset(name, str(tmp_path))
    known = UrlInfo(len(archive), hashlib.sha256(archive).hexdigest(), path.name)
    monkeypatch.setattr(builder, "url_infos", {builder.url: known})
    dataset = load_dataset(name, str(tmp_path))
    assert dataset.info.num_classes == classes and dataset.info.class_names[3] == "kind3"
    for split, source in (("train", dataset.train), ("test", dataset.eval)):
        expected = {
            image.tobytes(): int(label)
            for image, label in zip(
                np.concatenate(pixels[split]), np.concatenate(labels[split]), strict=True
            )
        }
        records = [source[i] for i in range(len(source))]
        read = {np.asarray(decode_image(r["image"])).tobytes(): r["label"] for r in records}
        assert read == expected
    assert len(load_dataset(name, str(tmp_path), train_split="train[:2]").train) == 2
    with pytest.raises(DatasetError, match=f"{name} has no split 'exam'; it has"):
        load_dataset(name, str(tmp_path), eval_split="exam")
