"""The demo, in a real browser: what it shows, and that uploads are bounded and deleted."""

import base64
import contextlib
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import pytest
from PIL import Image

from cluenet_jax.checkpoints.load import load
from cluenet_jax.cli import demo
from cluenet_jax.errors import ImageError, UserError
from tests.helpers.browser import canvas, hover, open_page
from tests.helpers.detection import save_checkpoint
from tests.helpers.images import encode, smooth_image

ROOT = pathlib.Path(__file__).parents[2]


@contextlib.contextmanager
def served(checkpoint):
    """The URL of the demo of a checkpoint, and the folder for what is uploaded."""
    pytest.importorskip("gradio", reason="Gradio, an optional extra, is not installed")
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "cluenet_jax", "demo", f"--checkpoint={checkpoint}"]
        process = subprocess.Popen(
            [*command, "--port=0", "--max_megabytes=1"],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": scratch},
            stdout=subprocess.PIPE,
            text=True,
        )
        line = process.stdout.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert url, line
        try:
            yield url[0], pathlib.Path(scratch)
        finally:
            process.send_signal(2)
            code = process.wait(30)
        assert code == 0
        assert not list(pathlib.Path(scratch).glob("cluenet-demo-*")), "uploads are gone"


@pytest.fixture(scope="module")
def server(checkpoint):
    with served(checkpoint) as url_and_scratch:
        yield url_and_scratch


def uploaded(scratch):
    return [p for p in scratch.rglob("*") if p.is_file() and p.stat().st_size]


def test_the_demo_shows_clusters_under_the_pointer(server, image_root, browser):
    url, scratch = server
    with open_page(browser, url) as page:
        page.wait_for_selector("input[type=file]", state="attached")
        page.set_input_files("input[type=file]", image_root / "test/dog/001.png")
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
            page.inner_text(".tooltip"),
        )
        lit = canvas(page)
        assert lit != second
        page.click("text=decision, K")
        hover(page, 0.52, 0.52)
        tooltip = page.inner_text(".tooltip")
        assert re.search(r"importance -?\d\.\d+ for (cat|dog): drop", tooltip)
        page.get_by_label("Importance for").click()
        target = "dog" if "for cat" in tooltip else "cat"
        page.get_by_role("option", name=target).click()
        page.wait_for_function(
            "name => JSON.parse(document.querySelector('.cluenet-viewer').dataset.explanation)"
            ".targetName === name",
            arg=target,
        )
    assert not uploaded(scratch), "the upload was deleted"


def test_objects_are_shown_with_their_scores_beside_the_clusters(tmp_path, browser):
    checkpoint, file = save_checkpoint(tmp_path / "run", sure=True), tmp_path / "wide.png"
    # Seen as 64x36 pixels, with padding below.
    smooth_image(3, 128, 72).save(file)
    trained = load(str(checkpoint))
    with Image.open(file) as image:
        example = trained.task.unlabeled_example(image)
    (result,) = trained.predict([example], batch_size=1)
    drawn = trained.task.draw(Image.fromarray(example["image"]), result.enlarged(480))
    assert len(result.entries()) == 4
    with served(checkpoint) as (url, scratch), open_page(browser, url) as page:
        page.wait_for_selector("input[type=file]", state="attached")
        page.set_input_files("input[type=file]", file)
        page.wait_for_selector(".cluenet-viewer[data-ready=yes]")
        rows = page.locator(".cluenet-viewer tr").all_inner_texts()
        assert [row.split()[:2] for row in rows] == [
            [name, f"{100 * score:.1f}"] for name, score in result.entries()
        ]
        url_of_answer = page.get_attribute(".cluenet-viewer img", "src")
        answer = Image.open(io.BytesIO(base64.b64decode(url_of_answer.split(",")[1])))
        assert answer.size == (512, 288) and answer.tobytes() == drawn.tobytes()
        explanation = json.loads(page.get_attribute(".cluenet-viewer", "data-explanation"))
        assert explanation["size"] == [64, 36] and len(explanation["stages"]) == 4
        first = canvas(page)
        page.click("text=stage 2")
        hover(page, 0.51, 0.52)
        assert "Row 18, column 32: cluster" in page.inner_text(".tooltip")
        assert canvas(page) != first
        assert not uploaded(scratch)


@pytest.mark.parametrize("kind", ["text", "bomb", "truncated"])
def test_a_hostile_upload_ends_in_a_message(server, tmp_path, browser, kind):
    url, scratch = server
    (tmp_path / "upload.png").write_bytes(hostile(kind))
    with open_page(browser, url) as page:
        page.wait_for_selector("input[type=file]", state="attached")
        page.set_input_files("input[type=file]", tmp_path / "upload.png")
        expected = "at most 50,000,000" if kind == "bomb" else "not a readable image"
        page.wait_for_selector(f"text={expected}")
    assert not uploaded(scratch)


def hostile(kind: str) -> bytes:
    good = encode(smooth_image(1, 200, 200))
    return {
        "text": b"no image",
        "bomb": encode(Image.new("1", (9000, 9000))),
        "truncated": good[: len(good) // 2],
    }[kind]


def test_a_large_upload_is_refused(server):
    url, scratch = server
    import httpx

    files = {"files": ("big.png", b"\0" * (3 * 2**20))}
    answer = httpx.post(f"{url}gradio_api/upload", files=files)
    assert answer.status_code == 413
    assert sum(p.stat().st_size for p in uploaded(scratch)) <= 2**20


@pytest.mark.parametrize("kind", ["good", "text", "bomb", "truncated"])
def test_an_upload_is_deleted_whatever_is_in_it(tmp_path, kind):
    folder = tmp_path / "upload"
    folder.mkdir()
    file = folder / "image.png"
    if kind == "good":
        file.write_bytes(encode(smooth_image(1, 200, 200)))
        assert demo.read_upload(str(file)).size == (200, 200)
    else:
        file.write_bytes(hostile(kind))
        expected = "at most 50,000,000" if kind == "bomb" else "not a readable image"
        with pytest.raises(ImageError, match=expected):
            demo.read_upload(str(file))
    assert not folder.exists()
    with pytest.raises(ImageError, match="drop it again"):
        demo.read_upload(str(file))


@pytest.mark.parametrize("flag", ["--port=70000", "--port=-1", "--max_megabytes=0"])
def test_wrong_arguments(flag):
    with pytest.raises(UserError, match="--port must be 0 .. 65535"):
        demo.main([flag])
