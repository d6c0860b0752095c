"""The benchmarks' PyTorch peer does the same work: it equals the recorded cases."""

import numpy as np
import pytest

from tests.helpers import recorded
from tests.helpers.golden import load_case, relative_error

torch = pytest.importorskip("torch", reason="PyTorch, an optional extra, is not installed")


def assert_equals_recorded(case, name, tuned=False, **options):
    from benchmarks import torch_peer

    peer = torch_peer.create_model(name, recorded.NUM_CLASSES, tuned, **options)
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
    for parameter, grad in grads.items():
        expected = case["grad"][parameter].reshape(grad.shape)
        assert np.abs(grad - expected).max() < 1e-3 * np.abs(expected).max() + 2e-6, parameter


@pytest.mark.parametrize("tuned", [False, True])
@pytest.mark.parametrize("name", recorded.CLUENET_CASES)
def test_the_cluenet_peer(name, tuned):
    case = load_case(name, parameters_of="cluenet_nano_32")
    case["param"] = {k: v for k, v in case["param"].items() if k in case["grad"]}
    options = {**recorded.CLUENET, **recorded.CLUENET_CASES[name]}
    assert_equals_recorded(case, "cluenet_nano", tuned, **options)


@pytest.mark.parametrize("name", ["clustr_nano_64", "clustr_nano_96x128"])
def test_the_clustr_peer(name):
    case = load_case(name, parameters_of="clustr_nano_64")
    assert_equals_recorded(case, "clustr_nano", **recorded.CLUSTR)
