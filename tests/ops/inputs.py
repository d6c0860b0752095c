"""Random inputs of the tests of ops."""

import numpy as np


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def signs(seed: int, *shape: int) -> np.ndarray:
    """-1 or 1: vectors of equal length, whose products are often exactly equal."""
    return np.random.default_rng(seed).choice(np.float32([-1, 1]), shape)


def integers(seed: int, limit: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, limit, shape, np.int32)
