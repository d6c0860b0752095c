"""Waits are announced: compilation once, long work by a bar, which only terminals get."""

import io
import sys

import pytest

from cluenet_jax.progress import announce_compiling, bar, say_beside_bars


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def test_only_the_first_call_is_announced():
    lines = []
    add = announce_compiling(lambda a, b: a + b, "training step", lines.append)
    assert (add(1, 2), add(3, 4)) == (3, 7)
    assert len(lines) == 2
    assert lines[0].startswith("Compiling the training step")
    assert lines[1].startswith("Compiled the training step in ")


def test_a_call_that_fails_does_not_count():
    lines = []
    divide = announce_compiling(lambda a, b: a / b, "step", lines.append)
    with pytest.raises(ZeroDivisionError):
        divide(1, 0)
    assert divide(1, 1) == 1
    assert [line.split()[0] for line in lines] == ["Compiling", "Compiling", "Compiled"]


def test_a_terminal_shows_a_bar_of_images(monkeypatch):
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    batches = bar([[1, 2], [3]], "Evaluation", 3, len)
    assert next(batches) == [1, 2]
    assert "Evaluation" in terminal.getvalue() and "0/3" in terminal.getvalue()
    assert list(batches) == [[3]]


def test_a_line_beside_a_bar_leaves_it_whole(monkeypatch):
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    images = bar(range(3), "Images", 3)
    next(images)
    say_beside_bars("Skipped: x.png")
    last = terminal.getvalue().rpartition("Skipped: x.png\n")[2]
    assert last.strip().startswith("Images:"), "the bar is drawn again below the line"


def test_a_log_file_gets_no_bar(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    assert list(bar(range(3), "Evaluation", 3)) == [0, 1, 2]
    assert log.getvalue() == ""
