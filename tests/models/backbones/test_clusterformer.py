"""ClusterFormer: equal to the reference number for number, and usable in every configuration."""

import jax
import numpy as np
import pytest

import cluenet_jax
from cluenet_jax.models.backbones import FAMILIES
from tests.helpers import peers
from tests.helpers.models import random_images, tiny_clusterformer

PARAMETERS = {
    "clusterformer_mini_cifar": 2_915_604,
    "clusterformer_mini": 5_636_932,
    "clusterformer_adjust": 15_013_372,
    "clusterformer_tiny": 30_268_252,
    "clusterformer_official_tiny": 31_633_696,
    "clusterformer_official_small": 52_949_176,
}
# Of the names and shapes of the published code's tensors.
CHECKSUMS = {
    "clusterformer_mini_cifar": 1_416_566_612,
    "clusterformer_mini": 3_443_070_020,
    "clusterformer_adjust": 982_120_079,
    "clusterformer_tiny": 1_430_174_658,
    "clusterformer_official_tiny": 1_694_932_181,
    "clusterformer_official_small": 1_674_681_049,
}


@pytest.mark.parametrize(
    ("name", "backend"), [("clusterformer_nano_32", "cpu"), ("clusterformer_nano_224", "default")]
)
def test_outputs_and_gradients_equal_the_reference(name, backend):
    errors = peers.check_case(name, backend)
    for key, error in errors.items():
        # Sums of terms that nearly cancel.
        assert error < (1e-3 if "sim_alpha" in key or "sim_beta" in key else 2e-4), key


def test_parameters_are_counted_to_the_last_digit():
    published = set(FAMILIES["clusterformer"].variants) - {"clusterformer_nano"}
    assert sorted(published) == sorted(PARAMETERS), "every published variant has its count here"
    for name, count in PARAMETERS.items():
        assert peers.count_and_checksum(name) == (count, CHECKSUMS[name]), name


@pytest.mark.parametrize(
    "options",
    [
        dict(memory_order="transposed"),
        dict(dtype="bfloat16", unused_map=True, num_iterations=1),
    ],
    ids=str,
)
def test_every_option_trains(options):
    # A softmax over the points does not feel a shift of the keys.
    cannot = "key/bias" if "memory_order" in options else "never"
    peers.check_that_it_trains(tiny_clusterformer(drop_path=0.0, **options), cannot)


# Maps of 15x21, 8x11, 4x6 and 2x3: most sides are no multiples of the windows.
@pytest.mark.parametrize("size", [(30, 42), (1, 3)])
@pytest.mark.parametrize("memory_order", ["published", "transposed"])
def test_any_input_size(size, memory_order):
    model = tiny_clusterformer(
        patch=(3, 2, 1), folds=((8, 8), (4, 4), (2, 2), (1, 1)), memory_order=memory_order
    )
    peers.check_size(model, size)


def test_transposed_windows_do_not_mix_and_published_ones_do():
    """What a change of one pixel changes in the first stage's mixer, windows of 4x4 pixels."""
    x = random_images(1, 256, 8)
    changed = np.where(np.arange(256)[:, None] == 0, x + 1, x)
    moved = {}
    for order in ("published", "transposed"):
        model = tiny_clusterformer(folds=((4, 4), (2, 2), (1, 1), (1, 1)), memory_order=order)
        mixer = model.backbone.mixer(0)
        variables = jax.jit(lambda x, mixer=mixer: mixer.init(jax.random.key(0), x, (16, 16)))(x)
        before, after = (mixer.apply(variables, x, (16, 16))[0] for x in (x, changed))
        moved[order] = np.any(np.abs(before - after) > 1e-6, axis=(0, 2)).reshape(16, 16)
    assert moved["transposed"][:4, :4].all()
    assert not moved["transposed"][4:].any() and not moved["transposed"][:, 4:].any()
    assert moved["published"][:, 4:].any()


def test_the_official_head_reads_all_levels():
    model = cluenet_jax.create_model("clusterformer_official_tiny")
    assert model.head.all_levels and model.head.norm_epsilon is None
    assert model.backbone.level_norms
    # The published code fails at 224 pixels.
    logits = jax.eval_shape(model.init_with_output, jax.random.key(0), np.zeros((1, 224, 224, 3)))
    assert logits[0].shape == (1, 1000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(memory_order="mine"), "published, transposed"),
        (dict(num_iterations=0), "at least 1"),
    ],
)
def test_wrong_options_say_what_would_be_right(options, message):
    with pytest.raises(ValueError, match=message):
        cluenet_jax.create_model("clusterformer_nano", **options)
