"""The benchmark's PyTorch peer does the same work: it is held to the recorded cases."""

import numpy as np
import pytest

from cluenet_jax.models.registry import model_options
from tests import test_cluenet, test_clustr
from tests.golden import load_case, relative_error

torch = pytest.importorskip("torch", reason="PyTorch, an optional extra, is not installed")


def peer_of(name, options, **form):
    from benchmarks import torch_peer

    return torch_peer.build(name, {**model_options(name), **options}, **form)


def hold(peer, case):
    state = {k: torch.from_numpy(np.asarray(v, np.float32)) for k, v in case["param"].items()}
    peer.load_state_dict(state, strict=True)
    images = torch.from_numpy(case["input"]).permute(0, 3, 1, 2)
    logits = peer.train(False)(images)
    assert relative_error(logits.detach().numpy(), case["logits"]) < 1e-5
    if not case["grad"]:
        return
    torch.nn.functional.cross_entropy(logits, torch.from_numpy(case["labels"]).long()).backward()
    grads = {k: p.grad.numpy() for k, p in peer.named_parameters()}
    assert grads.keys() == case["grad"].keys()
    for name, grad in grads.items():
        expected = case["grad"][name].reshape(grad.shape)
        assert np.abs(grad - expected).max() < 1e-3 * np.abs(expected).max() + 2e-6, name


@pytest.mark.parametrize("tuned", [False, True])
@pytest.mark.parametrize("name", test_cluenet.CASES)
def test_the_cluenet_peer(name, tuned):
    case = load_case(name, parameters_of="cluenet_nano_32")
    case["param"] = {k: v for k, v in case["param"].items() if k in case["grad"]}
    hold(
        peer_of("cluenet_nano", {**test_cluenet.RECORDED, **test_cluenet.CASES[name]}, tuned=tuned),
        case,
    )


@pytest.mark.parametrize("name", ["clustr_nano_64", "clustr_nano_96x128"])
def test_the_clustr_peer(name):
    first = next(iter(["clustr_nano_64", "clustr_nano_96x128"]))
    hold(peer_of("clustr_nano", test_clustr.RECORDED), load_case(name, parameters_of=first))
