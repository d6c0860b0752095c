"""IP102 from a folder of the published form."""

from cluenet_jax.data import load_dataset
from tests.helpers.images import encode, smooth_image


def test_ip102_from_a_folder(tmp_path):
    folder = tmp_path / "downloads" / "manual" / "ip102_v1.1"
    (folder / "images").mkdir(parents=True)
    lines = [f"{label + 1:<5}pest number {label} \n" for label in range(102)]
    (folder / "classes.txt").write_text("".join(lines))
    for part, name in enumerate(("train", "val", "test")):
        names = [f"{name}{label}.jpg {label}" for label in range(part, 102, 3)]
        (folder / f"{name}.txt").write_text("\n".join(names) + "\n")
        for line in names:
            (folder / "images" / line.split()[0]).write_bytes(encode(smooth_image(part), "JPEG"))
    dataset = load_dataset("ip102", str(tmp_path))
    assert (len(dataset.train), len(dataset.eval)) == (34, 34)
    assert dataset.info.class_names[5] == "pest number 5"
