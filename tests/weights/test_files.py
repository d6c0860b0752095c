"""Files of PyTorch weights: every kind, and what must not be read."""

import pickle

import numpy as np
import pytest
from safetensors.numpy import save_file

import cluenet_jax
from cluenet_jax.errors import UserError
from tests.helpers.golden import load_case


@pytest.fixture(scope="module")
def case():
    return load_case("cluenet_nano_32", parameters_of="cluenet_nano_32")


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
