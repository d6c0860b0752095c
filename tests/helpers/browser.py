"""A real browser, for the tests of HTML that people hover over."""

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

_BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
_FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


@contextlib.contextmanager
def launch_browser() -> Iterator[Any]:
    """Chromium, driven by Playwright; without them the test is skipped."""
    if not _BROWSER:
        pytest.skip("no browser: install Debian's chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with playwright.sync_playwright() as p:
        yield p.chromium.launch(executable_path=_BROWSER, args=_FLAGS)


@contextlib.contextmanager
def open_page(browser: Any, url: str) -> Iterator[Any]:
    """A page, of which nothing may complain."""
    page, complaints = browser.new_page(viewport={"width": 1200, "height": 900}), []
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(url)
    yield page
    page.close()
    assert not complaints


def canvas(page: Any) -> str:
    """The pixels that the viewer shows, as a data URL."""
    return page.evaluate("document.querySelector('.cluenet-viewer canvas').toDataURL()")


def hover(page: Any, x: float, y: float) -> None:
    """Moves the pointer to fractions of the viewer's width and height."""
    box = page.query_selector(".cluenet-viewer canvas").bounding_box()
    page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
