"""Results for image files."""

import json
import pathlib
import sys

import numpy as np
import pytest
from PIL import Image

from cluenet_jax.cli import main, predict
from tests.helpers.images import encode, smooth_image


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    image = smooth_image(3, 50, 40)
    image.save(folder / "a.jpg")
    image.convert("L").save(folder / "b.png")
    image.quantize(16).save(folder / "c.gif")
    image.convert("RGBA").save(folder / "d.webp")
    Image.fromarray(np.full((9, 7), 40_000, np.uint16)).save(folder / "e.tiff")
    Image.new("RGB", (1, 1), (9, 9, 9)).save(folder / "f.png")
    return folder


def run(arguments, capsys) -> tuple[int, str, str]:
    code = predict.main(arguments)
    return code, *capsys.readouterr()


def test_predictions_of_any_image(converted, images, capsys):
    code, out, err = run([f"--checkpoint={converted}", "--format=json", str(images)], capsys)
    results = json.loads(out)
    assert code == 0 and not err
    assert [pathlib.Path(r["file"]).name[0] for r in results] == list("abcdef")
    for result in results:
        odds = [p["probability"] for p in result["predictions"]]
        assert len(odds) == 5 and odds == sorted(odds, reverse=True) and sum(odds) <= 1.001


def test_formats_say_the_same(converted, images, capsys):
    flags = [f"--checkpoint={converted}", "--max_entries=2", str(images / "a.jpg")]
    (result,) = json.loads(run([*flags, "--format=json"], capsys)[1])
    best = result["predictions"][0]
    _, table, _ = run([*flags, "--format=csv"], capsys)
    assert table.splitlines()[0] == "file,rank,class,probability"
    assert table.splitlines()[1].endswith(f"1,{best['class']},{best['probability']}")
    _, text, _ = run(flags, capsys)
    assert f"{best['probability']:.2%}  {best['class']}" in text and len(text.splitlines()) == 3


def test_a_batch_of_any_size_gives_the_same(converted, images, capsys):
    flags = [f"--checkpoint={converted}", "--format=json", str(images)]
    one, four = (json.loads(run([*flags, f"--batch_size={n}"], capsys)[1]) for n in (1, 4))
    for a, b in zip(one, four, strict=True):
        assert a["predictions"][0]["class"] == b["predictions"][0]["class"]
        np.testing.assert_allclose(
            a["predictions"][0]["probability"], b["predictions"][0]["probability"], atol=1e-4
        )


def test_corrupt_images_are_named_and_skipped(converted, images, tmp_path, capsys):
    (tmp_path / "zero.jpg").write_bytes(b"")
    (tmp_path / "cut.jpg").write_bytes((images / "a.jpg").read_bytes()[:400])
    (tmp_path / "text.png").write_text("no image")
    header = encode(Image.new("1", (20_000, 20_000)))
    (tmp_path / "huge.png").write_bytes(header)
    (tmp_path / "empty").mkdir()
    arguments = [str(tmp_path), str(tmp_path / "empty"), str(tmp_path / "gone.jpg")]
    code, out, err = run([f"--checkpoint={converted}", *arguments, str(images / "a.jpg")], capsys)
    assert code == 1
    for text in (
        "zero.jpg: not a readable image",
        "cut.jpg: not a readable image",
        "text.png: not a readable image",
        "huge.png: not a readable image (Image size (400000000 pixels)",
        "empty: no images in this folder",
        "gone.jpg: cannot be read (No such file or directory)",
    ):
        assert text in err
    assert "a.jpg" in out


def test_a_missing_checkpoint_is_an_error_without_a_traceback(tmp_path, monkeypatch, capsys):
    arguments = ["cluenet", "predict", f"--checkpoint={tmp_path}", "a.jpg"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as end:
        main.main()
    assert end.value.code == 2
    assert f"Error: No checkpoint in {tmp_path}" in capsys.readouterr().err
