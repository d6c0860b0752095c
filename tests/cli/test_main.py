"""The verbs: one list, each with its help."""

import importlib
import subprocess
import sys

import pytest

from cluenet_jax.cli import main


@pytest.mark.parametrize("verb", main.VERBS)
def test_every_verb_has_help(verb, capsys):
    tool = importlib.import_module(f"cluenet_jax.cli.{verb}")
    with pytest.raises(SystemExit) as end:
        tool.main(["--help"])
    assert end.value.code == 0
    assert f"python -m cluenet_jax {verb}" in capsys.readouterr().out


def test_an_unknown_verb_lists_the_verbs():
    command = [sys.executable, "-m", "cluenet_jax", "predicts"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "'predicts' is not a verb" in done.stderr
    assert all(verb in done.stderr for verb in main.VERBS)


def test_a_reader_that_ends_early_gets_no_traceback():
    """Such as `head`."""
    code = "from cluenet_jax.cli import main; main.run(lambda argv: print('line\\n' * 10**6), [])"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "line\n"
    process.stdout.close()
    assert process.wait(300) == 1 and process.stderr.read() == ""
    process.stderr.close()
