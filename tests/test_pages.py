"""Pictures, the report and the interactive page, the pages in a real browser."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import jax
import numpy as np
import pytest
from PIL import Image

from cluenet_jax import map_scores, visualize
from cluenet_jax.config import default_config, model_from_config
from cluenet_jax.errors import UserError
from cluenet_jax.train import checkpoint
from tests.pictures import encode, image_folder, picture
from tests.test_cluenet import first_weights, images

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return image_folder(tmp_path_factory.mktemp("pictures"), train=1, test=3, side=32)


@pytest.fixture(scope="module")
def network(pictures, tmp_path_factory):
    """A checkpoint of random weights for the pictures' two classes."""
    config = default_config()
    config.data.name, config.data.dir = "image_folder", str(pictures)
    params = first_weights(model_from_config(config, 2), images(1, 32, 32, 3))["params"]
    meta = checkpoint.describe(config, ["cat", "dog"], (0.5,) * 3, (0.25,) * 3)
    folder = tmp_path_factory.mktemp("network") / "run"
    checkpoint.save_params(str(folder), jax.device_get(params), meta)
    return folder


def arguments(network, out, *rest):
    return [f"--checkpoint={network}", f"--out={out}", *map(str, rest)]


def test_every_picture_gets_its_figure_overlays_and_arrays(network, pictures, tmp_path, capsys):
    other = tmp_path / "000.png"
    other.write_bytes(encode(picture(7)))
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    out = tmp_path / "out"
    files = [pictures / "test/cat/000.png", other, broken]
    code = visualize.main(arguments(network, out, *files, "--regions", "2", "--heads", "0", "1"))
    assert code == 1 and "broken.jpg: not a readable picture" in capsys.readouterr().err
    assert {p.name for p in out.iterdir()} == {"000", "000_2", "sheet.png"}
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


def test_the_numbers_of_a_test_set(network, tmp_path, capsys):
    file = tmp_path / "scores.json"
    map_scores.main([f"--checkpoint={network}", "--regions=2", "--batch_size=4", f"--json={file}"])
    assert json.loads(file.read_text())["images"] == 6  # all, the last batch is not full
    assert "of 6 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ([], "either pictures or"),
        (["a.png", "--test_pictures=2"], "either pictures or"),
        (["gone.png"], "no picture to draw"),
        (["a.png", "--regions", "0"], "--regions=0"),
        (["--test_pictures=2", "--masks=x"], "add --report"),
        (["--test_pictures=2", "--masks=x", "--report"], "is for picture files"),
    ],
)
def test_wrong_arguments(network, tmp_path, rest, message):
    with pytest.raises(UserError, match=message):
        visualize.main(arguments(network, tmp_path / "out", *rest))
    assert not (tmp_path / "out").exists()


def test_a_missing_or_wrong_mask_is_named(network, pictures, tmp_path):
    rest = [pictures / "test/cat", "--report", "--scored=0", "--regions", "2"]
    with pytest.raises(UserError, match="000.png: not a readable mask"):
        visualize.main(arguments(network, tmp_path / "out", *rest, f"--masks={tmp_path}"))
    (tmp_path / "000.png").write_bytes(encode(picture(3)))
    with pytest.raises(UserError, match="not RGB"):
        visualize.main(arguments(network, tmp_path / "out", *rest, f"--masks={tmp_path}"))


@pytest.fixture(scope="module")
def browser():
    if not BROWSER:
        pytest.skip("no browser: install Debian's chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with playwright.sync_playwright() as p:
        yield p.chromium.launch(executable_path=BROWSER, args=FLAGS)


@contextlib.contextmanager
def open_page(browser, url):
    """A page, of which nothing may complain."""
    page, complaints = browser.new_page(viewport={"width": 1200, "height": 900}), []
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(url)
    yield page
    page.close()
    assert not complaints


def canvas(page):
    return page.evaluate("document.querySelector('.cluenet-viewer canvas').toDataURL()")


def hover(page, x, y):
    box = page.query_selector(".cluenet-viewer canvas").bounding_box()
    page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])


def test_the_report_needs_no_network_and_can_be_walked_through(
    network, pictures, tmp_path, browser
):
    masks = tmp_path / "masks"
    masks.mkdir()
    for i in range(3):
        half = np.zeros((32, 32), np.uint8)
        half[16:] = 1
        Image.fromarray(half).save(masks / f"{i:03}.png")
    out = tmp_path / "out"
    flags = ["--report", "--scored=4", "--regions", "2", "3", f"--masks={masks}"]
    assert visualize.main(arguments(network, out, pictures / "test", *flags)) == 0
    text = (out / "report.html").read_text()
    assert not re.search(r'(src|href)="(?!data:)', text) and "http" not in text
    assert "means of 4 pictures" in text and "miou" in text
    with open_page(browser, (out / "report.html").as_uri()) as page:
        page.context.set_offline(True)
        pictures_shown = page.locator(".row:not(.wrong)").count() + page.locator(".wrong").count()
        wrong = len(re.findall('class="row wrong"', text)) // 2  # among mistakes, among all
        assert pictures_shown == 6 + wrong and f"{6 - wrong} of 6 pictures" in text
        page.click(".row >> nth=0")
        page.wait_for_selector("dialog .cluenet-viewer[data-ready=yes]")
        first = canvas(page)
        hover(page, 0.3, 0.6)
        told = page.inner_text(".told")
        assert re.search(r"Row 19, column 9: cluster \d+ of head 0", told) and canvas(page) != first
        page.click("dialog button")
        assert not page.is_visible("dialog")


@pytest.fixture(scope="module")
def server(network):
    pytest.importorskip("gradio", reason="Gradio, an optional extra, is not installed")
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "cluenet_jax.demo", f"--checkpoint={network}", "--port=0"]
        process = subprocess.Popen(
            [*command, "--max_megabytes=1"],
            cwd=pathlib.Path(__file__).parent.parent,
            env={**os.environ, "TMPDIR": scratch},
            stdout=subprocess.PIPE,
            text=True,
        )
        line = process.stdout.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert url, line
        yield url[0], pathlib.Path(scratch)
        process.send_signal(2)
        assert process.wait(30) == 0
        assert not list(pathlib.Path(scratch).glob("cluenet-demo-*")), "uploads are gone"


def uploaded(scratch):
    return [p for p in scratch.rglob("*") if p.is_file() and p.stat().st_size]


def test_the_page_shows_clusters_under_the_pointer(server, pictures, browser):
    url, scratch = server
    with open_page(browser, url) as page:
        page.wait_for_selector("input[type=file]", state="attached")
        page.set_input_files("input[type=file]", pictures / "test/dog/001.png")
        page.wait_for_selector(".cluenet-viewer[data-ready=yes]")
        first = canvas(page)
        page.click("text=stage 3")
        second = canvas(page)
        assert second != first
        assert page.locator("legend:has-text('Head')").count() == 1
        hover(page, 0.52, 0.52)
        assert re.search(
            r"Row 16, column 16: cluster \d+ of head 0, \d+ pixels.*\n"
            r"receptive field of pixel \d+ of stage 3: \d+ pixels",
            page.inner_text(".told"),
        )
        lit = canvas(page)
        assert lit != second
        page.click("text=decision, K")
        hover(page, 0.52, 0.52)
        about = page.inner_text(".told")
        assert re.search(r"importance -?\d\.\d+ for (cat|dog): drop", about)
        page.get_by_label("Importance for").click()
        other = "dog" if "for cat" in about else "cat"
        page.get_by_role("option", name=other).click()
        page.wait_for_function(
            "name => JSON.parse(document.querySelector('.cluenet-viewer').dataset.picture)"
            ".className === name",
            arg=other,
        )
    assert not uploaded(scratch), "the upload was deleted"


@pytest.mark.parametrize("kind", ["text", "bomb", "cut"])
def test_a_hostile_upload_ends_in_a_message(server, tmp_path, browser, kind):
    url, scratch = server
    good = encode(picture(1, 200, 200))
    content = {
        "text": b"no picture",
        "bomb": encode(Image.new("1", (9000, 9000))),
        "cut": good[: len(good) // 2],
    }[kind]
    (tmp_path / "upload.png").write_bytes(content)
    with open_page(browser, url) as page:
        page.wait_for_selector("input[type=file]", state="attached")
        page.set_input_files("input[type=file]", tmp_path / "upload.png")
        expected = "at most 50,000,000" if kind == "bomb" else "not a readable picture"
        page.wait_for_selector(f"text={expected}")
    assert not uploaded(scratch)


def test_a_large_upload_is_refused(server, tmp_path):
    url, scratch = server
    import httpx

    files = {"files": ("big.png", b"\0" * (3 * 2**20))}
    answer = httpx.post(f"{url}gradio_api/upload", files=files)
    assert answer.status_code == 413
    assert sum(p.stat().st_size for p in uploaded(scratch)) <= 2**20
