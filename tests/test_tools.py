"""The tools on files of all kinds: convert, export, predict, summary."""

import json
import pathlib
import pickle
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

import cluenet_jax
from cluenet_jax import cli, convert, export, predict, summary
from cluenet_jax.data import normalize
from cluenet_jax.errors import UserError
from cluenet_jax.train import checkpoint
from cluenet_jax.train.evaluate import Predictions
from tests.golden import load_case, relative_error
from tests.pictures import encode, picture
from tests.test_cluenet import CASES, RECORDED, first_weights

ROOT = pathlib.Path(__file__).parent.parent
NAME = "cluenet_nano_32"
OPTIONS = {k: v for k, v in {**RECORDED, **CASES[NAME]}.items() if k != "num_classes"}
ARGUMENTS = ["--model=cluenet_nano", f"--options={json.dumps(OPTIONS)}", "--image_size=32"]


@pytest.fixture(scope="module")
def case():
    return load_case(NAME, parameters_of=NAME)


@pytest.fixture(scope="module")
def converted(case, tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted")
    np.savez(folder / "weights.npz", **case["param"])
    names = folder / "names.txt"
    names.write_text("\n".join(f"kind {i}" for i in range(10)) + "\n")
    target = folder / "checkpoint"
    source = str(folder / "weights.npz")
    convert.main([source, str(target), *ARGUMENTS, f"--class_names={names}"])
    return target


def test_converted_weights_give_the_recorded_logits(case, converted):
    loaded = checkpoint.load(str(converted))
    logits = jax.jit(loaded.model.apply)({"params": loaded.params}, case["input"])
    assert relative_error(logits, case["logits"]) < 1e-5
    assert loaded.meta["class_names"][3] == "kind 3"
    assert {"model", "options", "mean", "std", "image_size", "config", "versions", "scores"} <= (
        loaded.meta.keys()
    )


def test_every_kind_of_file_holds_the_same_weights(case, tmp_path):
    weights = case["param"]
    np.savez(tmp_path / "a.npz", **{f"module.{k}": v for k, v in weights.items()})
    save_file(weights, tmp_path / "b.safetensors")
    files = [tmp_path / "a.npz", tmp_path / "b.safetensors"]
    for file in files:
        read = cluenet_jax.weights.read_state_dict(str(file))
        assert read.keys() == weights.keys()
        assert all((read[name] == weights[name]).all() for name in weights)


def test_pytorch_checkpoints(case, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch, an optional extra, is not installed")
    tensors = {name: torch.from_numpy(value) for name, value in case["param"].items()}
    wrapped = {f"module.{name}": value for name, value in tensors.items()}
    for i, content in enumerate(
        [tensors, wrapped, *({key: wrapped, "epoch": 3} for key in ("model", "state_dict"))]
    ):
        torch.save(content, tmp_path / f"{i}.pth")
        read = cluenet_jax.weights.read_state_dict(str(tmp_path / f"{i}.pth"))
        assert all((read[name] == case["param"][name]).all() for name in case["param"])
    torch.save({"model": Malicious()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="refused"):
        cluenet_jax.weights.read_state_dict(str(tmp_path / "evil.pth"))
    (tmp_path / "cut.pth").write_bytes((tmp_path / "0.pth").read_bytes()[:5000])
    with pytest.raises(UserError, match="not a readable PyTorch file|refused"):
        cluenet_jax.weights.read_state_dict(str(tmp_path / "cut.pth"))


class Malicious:
    """Runs code when unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('code was run')",))


def test_an_npz_of_pickles_is_refused(tmp_path):
    np.savez(tmp_path / "evil.npz", a=np.array(Malicious(), object))
    with pytest.raises(UserError, match="not a readable npz file"):
        cluenet_jax.weights.read_state_dict(str(tmp_path / "evil.npz"))
    (tmp_path / "evil.npz").write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(UserError, match="not a readable npz file"):
        cluenet_jax.weights.read_state_dict(str(tmp_path / "evil.npz"))


def change(weights, name, value):
    return {**weights, name: value}


@pytest.mark.parametrize(
    ("file", "content", "arguments", "message"),
    [
        ("gone.npz", None, [], "there is no such file"),
        ("a.txt", b"x", [], "expected a file of one of the kinds"),
        ("cut.npz", lambda w, f: f[:4000], [], "not a readable npz file"),
        ("cut.safetensors", b"\x10\0\0\0", [], "not a readable safetensors file"),
        ("empty.npz", {}, [], "holds no weights"),
        ("w.npz", lambda w, f: f, ["--model=cluenet_nan"], "Did you mean 'cluenet_nano'"),
        ("w.npz", lambda w, f: f, ["--options={"], "not JSON"),
        ("w.npz", lambda w, f: f, ['--options={"gird": 4}'], "Did you mean 'grid'"),
        ("w.npz", lambda w, f: f, ["--options={}"], "tensors differ"),
        ("w.npz", lambda w, f: f, ["--dataset=cifar"], "known are digits"),
        ("w.npz", lambda w, f: f, ["--class_names=/nowhere"], "there is no such file"),
        ("w.npz", {"head.weight": np.ones((10, 3))}, [], "missing: norm.bias"),
        ("w.npz", {"norm.weight": np.ones(3)}, [], "no tensor head.weight"),
    ],
)
def test_what_cannot_be_converted(file, content, arguments, message, case, tmp_path):
    np.savez(tmp_path / "whole.npz", **case["param"])
    whole = (tmp_path / "whole.npz").read_bytes()
    if callable(content):
        content = content(case["param"], whole)
    if isinstance(content, bytes):
        (tmp_path / file).write_bytes(content)
    elif content is not None:
        np.savez(tmp_path / file, **content)
    target = tmp_path / "target"
    with pytest.raises(UserError, match=message):
        convert.main([str(tmp_path / file), str(target), *ARGUMENTS, *arguments])
    assert not target.exists(), "nothing half-written stays behind"


def test_a_target_in_use_is_left_alone(converted, tmp_path):
    (tmp_path / "old").write_text("kept")
    with pytest.raises(UserError, match="is not empty"):
        convert.main([str(converted.parent / "weights.npz"), str(tmp_path), *ARGUMENTS])
    assert [p.name for p in tmp_path.iterdir()] == ["old"]


def test_export_to_pytorchs_names(case, converted, tmp_path):
    export.main([str(converted), str(tmp_path / "out.safetensors")])
    written = load_file(tmp_path / "out.safetensors")
    assert written.keys() == case["param"].keys()
    for name, value in case["param"].items():
        np.testing.assert_array_equal(written[name], value, name)
        assert written[name].shape == value.shape


def test_an_exported_program_runs_without_this_package(converted, tmp_path):
    """The README's script, in a process where `cluenet_jax` cannot be imported."""
    out = tmp_path / "out"
    export.main([str(converted), str(out)])
    script = re.search(
        r"```python\n(# classify\.py\n.*?)```", (ROOT / "README.md").read_text(), re.S
    )
    image = picture(0, 32, 32)
    image.save(tmp_path / "image.png")
    blocked = "import sys; sys.modules['cluenet_jax'] = sys.modules['flax'] = None\n"
    (tmp_path / "classify.py").write_text(blocked + script.group(1) + "print(logits.tolist())\n")
    found = subprocess.run(
        [sys.executable, "classify.py", "image.png"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.returncode == 0, found.stderr
    best, logits = found.stdout.strip().splitlines()
    loaded = checkpoint.load(str(converted))
    normal = normalize(np.asarray(image)[None], loaded.meta["mean"], loaded.meta["std"])
    expected = np.asarray(jax.jit(loaded.model.apply)({"params": loaded.params}, normal))[0]
    np.testing.assert_allclose(json.loads(logits), expected, atol=1e-5)
    assert best == f"kind {expected.argmax()}"


def test_an_exported_program_takes_any_batch(converted):
    program = jax.export.deserialize(
        bytearray(export.export_program(checkpoint.load(str(converted))))
    )
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    together = program.call(images)
    apart = np.concatenate([program.call(images[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(together, apart, atol=1e-5)


@pytest.mark.parametrize("side", [32, 96])
def test_clustr_is_exported_too(side):
    """Clustered all at once, and one image after the other."""
    model = cluenet_jax.create_model("clustr_nano")
    params = first_weights(model, np.zeros((1, 32, 32, 3), np.float32))["params"]
    meta = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "image_size": side}
    program = export.export_program(checkpoint.Loaded(model, params, meta))
    images = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), dtype=np.uint8)
    logits = jax.export.deserialize(bytearray(program)).call(images)
    # Normalised inside too: another rounding can move a token to another cluster.
    expected = jax.jit(
        lambda images: model.apply({"params": params}, normalize(images, (0.5,) * 3, (0.5,) * 3))
    )(images)
    assert relative_error(logits, expected) < 1e-5


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    image = picture(3, 50, 40)
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


def test_predictions_of_any_picture(converted, pictures, capsys):
    code, out, err = run([f"--checkpoint={converted}", "--format=json", str(pictures)], capsys)
    results = json.loads(out)
    assert code == 0 and not err
    assert [pathlib.Path(r["file"]).name[0] for r in results] == list("abcdef")
    for result in results:
        found = [p["probability"] for p in result["predictions"]]
        assert len(found) == 5 and found == sorted(found, reverse=True) and sum(found) <= 1.001


def test_formats_say_the_same(converted, pictures, capsys):
    flags = [f"--checkpoint={converted}", "--top_k=2", str(pictures / "a.jpg")]
    (result,) = json.loads(run([*flags, "--format=json"], capsys)[1])
    best = result["predictions"][0]
    _, table, _ = run([*flags, "--format=csv"], capsys)
    assert table.splitlines()[0] == "file,rank,class,probability"
    assert table.splitlines()[1].endswith(f"1,{best['class']},{best['probability']}")
    _, text, _ = run(flags, capsys)
    assert f"{best['probability']:.2%}  {best['class']}" in text and len(text.splitlines()) == 3


def test_a_batch_of_any_size_gives_the_same(converted, pictures, capsys):
    flags = [f"--checkpoint={converted}", "--format=json", str(pictures)]
    one, four = (json.loads(run([*flags, f"--batch_size={n}"], capsys)[1]) for n in (1, 4))
    for a, b in zip(one, four, strict=True):
        assert a["predictions"][0]["class"] == b["predictions"][0]["class"]
        np.testing.assert_allclose(
            a["predictions"][0]["probability"], b["predictions"][0]["probability"], atol=1e-4
        )


def test_broken_pictures_are_named_and_skipped(converted, pictures, tmp_path, capsys):
    (tmp_path / "zero.jpg").write_bytes(b"")
    (tmp_path / "cut.jpg").write_bytes((pictures / "a.jpg").read_bytes()[:400])
    (tmp_path / "text.png").write_text("no picture")
    header = encode(Image.new("1", (20_000, 20_000)))
    (tmp_path / "huge.png").write_bytes(header)
    (tmp_path / "empty").mkdir()
    arguments = [str(tmp_path), str(tmp_path / "empty"), str(tmp_path / "gone.jpg")]
    code, out, err = run([f"--checkpoint={converted}", *arguments, str(pictures / "a.jpg")], capsys)
    assert code == 1
    for text in (
        "zero.jpg: not a readable picture",
        "cut.jpg: not a readable picture",
        "text.png: not a readable picture",
        "huge.png: not a readable picture (Image size (400000000 pixels)",
        "empty: no pictures in this folder",
        "gone.jpg: cannot be read (No such file or directory)",
    ):
        assert text in err
    assert "a.jpg" in out


def test_a_missing_checkpoint_is_an_error_without_a_traceback(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["predict", f"--checkpoint={tmp_path}", "a.jpg"])
    with pytest.raises(SystemExit) as end:
        cli.run(predict.main)
    assert end.value.code == 2
    assert f"Error: No checkpoint in {tmp_path}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "size", "published"),
    [
        ("cluenet_mini_cifar", 32, 189e6),
        ("cluenet_micro", 224, 0.65e9),
        ("cluenet_tiny", 224, 1.30e9),
        ("cluenet_small", 224, 3.16e9),
        ("cluenet_base", 224, 6.40e9),
        ("clustr_b1", 224, 2.15e9),
        ("clustr_b2", 224, 4.80e9),
        ("clustr_b3", 224, 7.48e9),
    ],
)
def test_multiply_adds_are_the_published_ones(name, size, published):
    counts = summary.count_multiply_adds(cluenet_jax.create_model(name), size)
    assert abs(counts["published"] / published - 1) < 0.03
    assert counts["others"] > 0 and counts["xla"] > counts["published"]


def test_summary_prints_modules_and_totals(capsys):
    summary.main(["cluenet_nano", "--image_size=32", "--depth=1"])
    out = capsys.readouterr().out
    assert "stage3_block1" in out and "373,095" in out and "M multiply-adds" in out


def test_calibration_error_of_a_known_case():
    confidence = np.array([0.9, 0.9, 0.6, 0.6], np.float32)
    right = np.array([1, 1, 1, 0])
    zeros = np.zeros(4, np.int32)
    predictions = Predictions(zeros, 1 - right, 1 - right, confidence, confidence)
    # Two bins of two: gaps of 0.1 and 0.1.
    np.testing.assert_allclose(predictions.calibration_error(), 0.1, atol=1e-6)
