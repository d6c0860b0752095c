"""MACs as the papers count them."""

import pytest

import cluenet_jax
from cluenet_jax.macs import count_macs


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
def test_macs_are_the_published_ones(name, size, published):
    counts = count_macs(cluenet_jax.create_model(name), size)
    assert abs(counts["published"] / published - 1) < 0.03
    assert counts["unpublished"] > 0 and counts["xla"] > counts["published"]


@pytest.mark.parametrize(
    ("name", "products"), [("coc_mini_cifar", 157.3e6), ("fec_mini_cifar", 192.8e6)]
)
def test_macs_are_the_products_of_the_published_code(name, products):
    counts = count_macs(cluenet_jax.create_model(name), 32)
    assert counts["published"] == pytest.approx(products, abs=0.05e6)
    assert counts["unpublished"] == 0
