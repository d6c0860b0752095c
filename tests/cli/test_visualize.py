"""Figures, overlays, arrays and the HTML report of images, the report in a real browser."""

import re

import numpy as np
import pytest
from PIL import Image

from cluenet_jax.cli import visualize
from cluenet_jax.errors import UserError
from tests.helpers.browser import canvas, hover, open_page
from tests.helpers.images import encode, smooth_image


def run(checkpoint, out, *arguments):
    return visualize.main([f"--checkpoint={checkpoint}", f"--out={out}", *map(str, arguments)])


def test_every_image_gets_its_figure_overlays_and_arrays(checkpoint, image_root, tmp_path, capsys):
    same_name = tmp_path / "000.png"
    same_name.write_bytes(encode(smooth_image(7)))
    corrupt = tmp_path / "corrupt.jpg"
    corrupt.write_bytes(b"no image")
    out = tmp_path / "out"
    files = [image_root / "test/cat/000.png", same_name, corrupt]
    code = run(checkpoint, out, *files, "--regions", "2", "--heads", "0", "1")
    assert code == 1 and "corrupt.jpg: not a readable image" in capsys.readouterr().err
    assert {p.name for p in out.iterdir()} == {"000", "000_2", "contact_sheet.png"}
    names = {p.name for p in (out / "000").iterdir()}
    heads = [(1, 2), (2, 2), (3, 4), (4, 4)]
    overlays = {f"stage{s}_head{h}.png" for s, count in heads for h in range(count)}
    assert names == {"figure.png", "maps.npz", "decision2.png"} | overlays
    arrays = dict(np.load(out / "000" / "maps.npz"))
    np.testing.assert_array_equal(arrays["image"], np.asarray(Image.open(files[0])))
    assert arrays["stage1_clusters"].shape == (2, 16, 16)
    assert arrays["stage4_fields"].shape == arrays["decision2_regions"].shape == (32, 32)
    assert len(arrays["decision2_drop_keep"]) == arrays["decision2_regions"].max() + 1
    with Image.open(out / "000" / "figure.png") as figure:
        assert figure.width > 5 * 224


def test_images_of_the_evaluation_set_at_another_size(checkpoint, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(checkpoint, out, "--num_images=2", "--image_size=48", "--regions", "2") == 0
    assert "Maps of 2 images" in capsys.readouterr().out
    # The first and the last of the six.
    folders = {"image_folder_0", "image_folder_5"}
    assert {p.name for p in out.iterdir()} == folders | {"contact_sheet.png"}
    arrays = np.load(out / "image_folder_5" / "maps.npz")
    assert arrays["image"].shape == (48, 48, 3) and arrays["stage1_clusters"].shape == (2, 24, 24)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either images or"),
        (["a.png", "--num_images=2"], "either images or"),
        (["gone.png"], "no image to draw"),
        (["a.png", "--regions", "0"], "--regions=0"),
        (["--num_images=0"], "--num_images=0"),
        (["a.png", "--num_instances=-1"], "--num_instances=-1"),
        (["--num_images=2", "--masks=x"], "add --report"),
        (["--num_images=2", "--masks=x", "--report"], "is for image files"),
    ],
)
def test_wrong_arguments(checkpoint, tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        run(checkpoint, tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_a_missing_or_wrong_mask_is_named(checkpoint, image_root, tmp_path):
    arguments = [
        image_root / "test/cat", "--report", "--num_scored=0", "--regions", "2",
        f"--masks={tmp_path}",
    ]  # fmt: skip
    with pytest.raises(UserError, match="000.png: not a readable mask"):
        run(checkpoint, tmp_path / "out", *arguments)
    (tmp_path / "000.png").write_bytes(encode(smooth_image(3)))
    with pytest.raises(UserError, match="not RGB"):
        run(checkpoint, tmp_path / "out", *arguments)


def test_the_report_names_the_default_checkpoint(checkpoint, image_root, tmp_path, monkeypatch):
    monkeypatch.setattr(visualize, "checkpoint_or_default", lambda given: given or str(checkpoint))
    images = str(image_root / "test/cat/000.png")
    visualize.main([f"--out={tmp_path}", images, "--report", "--num_scored=0", "--regions", "2"])
    assert f", from {checkpoint}" in (tmp_path / "report.html").read_text()


@pytest.fixture(scope="module")
def report(checkpoint, image_root, tmp_path_factory):
    """The report of six images with masks."""
    folder = tmp_path_factory.mktemp("report")
    masks = folder / "masks"
    masks.mkdir()
    for i in range(3):
        half = np.zeros((32, 32), np.uint8)
        half[16:] = 1
        Image.fromarray(half).save(masks / f"{i:03}.png")
    out = folder / "out"
    flags = ["--report", "--num_scored=4", "--regions", "2", "3", f"--masks={masks}"]
    assert run(checkpoint, out, image_root / "test", *flags) == 0
    return out / "report.html"


def test_the_report_needs_no_internet_and_has_the_numbers(report):
    text = report.read_text()
    assert not re.search(r'(src|href)="(?!data:)', text) and "http" not in text
    assert "means of 4 images" in text and "miou" in text and "Grad-CAM" in text
    wrong = len(re.findall('class="row wrong"', text)) // 2  # among mistakes, among all
    assert f"{6 - wrong} of 6 images" in text


def test_the_report_can_be_walked_through(report, browser):
    wrong = len(re.findall('class="row wrong"', report.read_text())) // 2
    with open_page(browser, report.as_uri()) as page:
        page.context.set_offline(True)
        images_shown = page.locator(".row:not(.wrong)").count() + page.locator(".wrong").count()
        assert images_shown == 6 + wrong
        page.click(".row >> nth=0")
        page.wait_for_selector("dialog .cluenet-viewer[data-ready=yes]")
        first = canvas(page)
        hover(page, 0.3, 0.6)
        tooltip = page.inner_text(".tooltip")
        assert re.search(r"Row 19, column 9: cluster \d+ of head 0", tooltip)
        assert canvas(page) != first
        page.click("dialog button")
        assert not page.is_visible("dialog")
