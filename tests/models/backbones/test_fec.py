"""FEC: equal to the reference number for number, and usable in every configuration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cluenet_jax.models.backbones import FAMILIES
from cluenet_jax.models.backbones.fec import FECPooling
from tests.helpers import peers
from tests.helpers.models import random_images, tiny_fec

PARAMETERS = {
    "fec_small": 5_727_528,
    "fec_base": 15_086_848,
    "fec_large": 29_720_344,
    "fec_mini_cifar": 2_830_484,
}
# Of the names and shapes of the published code's tensors.
CHECKSUMS = {
    "fec_small": 979_089_354,
    "fec_base": 244_575_787,
    "fec_large": 2_776_063_608,
    "fec_mini_cifar": 759_158_734,
}


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("fec_nano_32", "cpu"),
        ("fec_nano_40x48", "cpu"),
        ("fec_nano_224", "default"),
        ("fec_nano_fold_96x64", "default"),
    ],
)
def test_outputs_and_gradients_equal_the_reference(name, backend):
    errors = peers.check_case(name, backend)
    assert max(errors.values(), default=0) < 1e-4, max(errors, key=errors.get)


def test_levels_equal_the_reference():
    peers.check_levels("fec_nano_backbone_32")


def test_parameters_are_counted_to_the_last_digit():
    published = [name for name in FAMILIES["fec"].variants if name != "fec_nano"]
    assert sorted(published) == sorted(PARAMETERS), "every published variant has its count here"
    for name, count in PARAMETERS.items():
        assert peers.count_and_checksum(name) == (count, CHECKSUMS[name]), name


@pytest.mark.parametrize("options", [dict(folds=((2, 2),) * 4, dtype="bfloat16")], ids=str)
def test_every_option_trains(options):
    peers.check_that_it_trains(tiny_fec(drop_path=0.0, **options))


# Maps of 15x21, 8x11, 4x6 and 2x3: most sides are no multiples of the folds.
@pytest.mark.parametrize("size", [(30, 42), (1, 3)])
def test_any_input_size(size):
    folds = ((4, 4), (3, 2), (2, 2), (1, 1))
    peers.check_size(tiny_fec(patch=(3, 2, 1), folds=folds), size)


@pytest.fixture(scope="module")
def pooling():
    """A pooling in folds of 4x8 pixels, its variables, points and what it makes of them."""
    module = FECPooling(12, (4, 2))
    x = random_images(2, 16, 16, 8)
    variables = jax.jit(module.init)(jax.random.key(0), x)
    return module, variables, x, jax.jit(module.apply)(variables, x)


def test_pixels_join_cells_of_their_own_fold(pooling):
    *_, (_, parents) = pooling
    row, column = np.divmod(np.asarray(parents), 8)
    rows, columns = np.meshgrid(np.arange(16), np.arange(16), indexing="ij")
    np.testing.assert_array_equal(row // 2, np.broadcast_to(rows // 4, row.shape))
    np.testing.assert_array_equal(column // 4, np.broadcast_to(columns // 8, row.shape))
    assert len(np.unique(row % 2)) == 2 and len(np.unique(column % 4)) == 4


def test_the_guide_decides_but_is_no_parameter(pooling):
    module, variables, x, (_, before) = pooling
    assert "guide" not in variables["params"] and variables["frozen"].keys() == {"guide"}
    flipped = jax.tree.map(lambda leaf: jnp.flip(leaf, axis=0), variables["frozen"])
    _, after = jax.jit(module.apply)({**variables, "frozen": flipped}, x)
    assert np.any(before != after)


def test_the_guide_is_drawn_like_a_convolution_of_pytorch(pooling):
    _, variables, *_ = pooling
    guide, value = variables["frozen"]["guide"], variables["params"]["value"]
    for leaf in (guide["kernel"], guide["bias"], value["kernel"], value["bias"]):
        assert 0.7 * 8**-0.5 < jnp.abs(leaf).max() <= 8**-0.5
    assert not np.array_equal(guide["kernel"], value["kernel"])
