"""Augmentation of batches: the laws of each change, the same on any number of devices."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from scipy import stats

from cluenet_jax.data import Preprocessing, augment_images, mix
from cluenet_jax.data.batch_augment import (
    beta_quantile,
    random_crop,
    random_erase,
    random_horizontal_flip,
)

KEY = jax.random.key(0)


def random_images(count: int = 16, side: int = 12) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (count, side, side, 3), dtype=np.uint8)


def test_random_crop_moves_the_image_and_fills_with_black():
    images = random_images()
    out = np.asarray(random_crop(KEY, images, 4))
    assert out.shape == images.shape and out.dtype == np.uint8
    np.testing.assert_array_equal(random_crop(KEY, images, 0), images)
    offsets = set()
    for before, after in zip(images, out, strict=True):
        padded = np.pad(before, ((4, 4), (4, 4), (0, 0)))
        matches = [
            (i, j)
            for i in range(9)
            for j in range(9)
            if (padded[i : i + 12, j : j + 12] == after).all()
        ]
        assert len(matches) == 1
        offsets.add(matches[0])
    assert len(offsets) > 8


def test_about_half_of_the_images_is_flipped_and_twice_is_the_identity():
    images = random_images(64)
    once = random_horizontal_flip(KEY, images)
    flipped = [(a != b).any() for a, b in zip(np.asarray(once), images, strict=True)]
    assert 16 < sum(flipped) < 48
    np.testing.assert_array_equal(random_horizontal_flip(KEY, once), images)


@pytest.mark.parametrize("mode", ["zeros", "noise"])
def test_erasing_takes_rectangles_of_the_wanted_area(mode):
    images = jnp.full((200, 32, 32, 3), 7.0)
    out = np.asarray(random_erase(KEY, images, 0.5, (0.02, 0.2), (0.3, 3.3), mode))
    erased = (out != 7).any(-1)
    touched = erased.any((1, 2))
    assert 70 < touched.sum() < 130
    for mask in erased[touched]:
        rows, columns = np.where(mask.any(1))[0], np.where(mask.any(0))[0]
        box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert box.all(), "the erased part is a rectangle"
        assert 0.01 < box.mean() * box.size / 1024 < 0.24
    filling = out[erased]
    assert (filling == 0).all() if mode == "zeros" else 0.9 < filling.std() < 1.1
    unchanged = random_erase(KEY, images, 0.0, (0.02, 0.2), (0.3, 3.3), mode)
    np.testing.assert_array_equal(unchanged, images)


def augment(key, images, **changes):
    options = dict(
        crop_padding=2,
        horizontal_flip=True,
        erase_prob=0.5,
        erase_area=(0.02, 0.2),
        erase_aspect=(0.3, 3.3),
        erase_mode="zeros",
        normalize=Preprocessing(12, 0, "bicubic", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)).normalize,
    )
    return augment_images(key, images, **{**options, **changes})


def test_augmentation_is_the_same_jitted_and_split_over_devices():
    images = random_images()
    once = augment(KEY, images)
    chex.assert_type(once, jnp.float32)
    np.testing.assert_allclose(jax.jit(augment)(KEY, images), once, atol=1e-6)
    mesh = Mesh(jax.devices(), ("data",))
    split = jax.device_put(images, NamedSharding(mesh, PartitionSpec("data")))
    np.testing.assert_allclose(jax.jit(augment)(KEY, split), once, atol=1e-6)
    assert (np.asarray(augment(jax.random.key(1), images)) != once).any()


def test_augmentation_that_is_off_only_normalizes():
    images = random_images()
    out = augment(KEY, images, crop_padding=0, horizontal_flip=False, erase_prob=0.0)
    np.testing.assert_allclose(out, images / np.float32(255) * 4 - 2, atol=1e-6)


def test_mixing_that_is_off_changes_nothing():
    images, targets = jnp.ones((4, 2, 2, 3)), jnp.eye(4)
    mixed, mixed_targets = mix(KEY, images, targets, 0.0, 0.0)
    assert mixed is images and mixed_targets is targets


@pytest.mark.parametrize("alpha", [0.5, 0.8, 1.0, 4.0])
def test_fractions_are_of_a_beta_distribution(alpha):
    uniform = jax.random.uniform(KEY, (20_000,))
    draws = jax.jit(jax.vmap(functools.partial(beta_quantile, alpha=alpha)))(uniform)
    assert stats.kstest(np.asarray(draws), stats.beta(alpha, alpha).cdf).pvalue > 0.01
    ends = [float(beta_quantile(jnp.float32(end), alpha)) for end in (0, 0.5, 1)]
    np.testing.assert_allclose(ends, [0, 0.5, 1], atol=1e-6)


def test_neighbors_are_mixed_and_the_last_of_an_odd_number_is_not():
    images = jnp.arange(5.0)[:, None, None, None] * jnp.ones((5, 8, 8, 1))
    _, soft = mix(KEY, images, jnp.eye(5), 0.8, 0.0)
    assert (np.asarray(soft)[:4].reshape(2, 2, 5).sum(1) > 0).sum() == 4
    own = float(soft[0, 0])
    np.testing.assert_allclose(soft[:2, :2], [[own, 1 - own], [1 - own, own]], rtol=1e-5)
    np.testing.assert_allclose(soft[4], np.eye(5)[4], rtol=1e-6)


@pytest.mark.parametrize(
    ("mixup", "cutmix", "methods"),
    [(0.8, 1.0, {"mixup", "cutmix"}), (0.8, 0.0, {"mixup"}), (0.0, 1.0, {"cutmix"})],
)
def test_mixed_targets_are_the_fractions_of_the_images(mixup, cutmix, methods):
    images = jnp.stack([jnp.full((16, 16, 1), float(i)) for i in range(4)])
    targets, methods_used = jnp.eye(4), set()
    mix_batch = jax.jit(functools.partial(mix, mixup=mixup, cutmix=cutmix))
    for seed in range(30):
        mixed, soft = mix_batch(jax.random.key(seed), images, targets)
        np.testing.assert_allclose(soft.sum(1), 1, rtol=1e-5)
        # An image's pixels are its number, so the mean pixel gives the fractions.
        np.testing.assert_allclose(mixed.mean((1, 2, 3)), soft @ jnp.arange(4.0), atol=1e-4)
        whole = np.isin(np.round(mixed, 5), np.arange(4)).all()
        methods_used.add("cutmix" if whole else "mixup")
    assert methods_used == methods
