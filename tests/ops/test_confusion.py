"""Confusion matrices: equal to NumPy's counts in every form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cluenet_jax import ops
from cluenet_jax.ops import confusion
from cluenet_jax.ops.tpu import confusion as tpu_confusion


def counts(prediction, label, classes: int, ignore: int = 255) -> np.ndarray:
    matrices = np.zeros((len(label), classes, classes), int)
    for matrix, p, t in zip(matrices, prediction, label, strict=True):
        counted = (t != ignore) & (t < classes)
        np.add.at(matrix, (t[counted], p[counted]), 1)
    return matrices


FORMS = {
    "selected": ops.confusion_matrix,
    "plain": confusion.confusion_matrix,
    "one block": lambda p, t, num_classes, ignore=255: tpu_confusion.confusion_matrix(
        p, t, num_classes=num_classes, ignore=ignore, block_entries=2**21
    ),
    "small blocks": lambda p, t, num_classes, ignore=255: tpu_confusion.confusion_matrix(
        p, t, num_classes=num_classes, ignore=ignore, block_entries=7 * num_classes
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("shape", "classes"), [((1, 1, 1), 1), ((3, 5, 7), 2), ((2, 24, 31), 11), ((2, 16, 16), 150)]
)
def test_pixels_are_counted_exactly(form, shape, classes):
    rng = np.random.default_rng(classes)
    for ignored in (0.0, 0.3, 1.0):
        prediction = rng.integers(classes, size=shape).astype(np.int32)
        label = rng.integers(classes, size=shape).astype(np.uint8)
        label[rng.random(shape) < ignored] = 255
        matrix = FORMS[form](jnp.asarray(prediction), jnp.asarray(label), classes)
        assert matrix.dtype == jnp.int32
        np.testing.assert_array_equal(matrix, counts(prediction, label, classes))


@pytest.mark.parametrize("form", FORMS)
def test_labels_that_are_no_class_are_not_counted(form):
    label = jnp.array([[[0, 1, 2, 3, 200, 255, -1]]], jnp.int32)
    prediction = jnp.array([[[0, 1, 1, 0, 1, 0, 1]]], jnp.int32)
    expected = [[[1, 0], [0, 1]]]
    np.testing.assert_array_equal(FORMS[form](prediction, label, 2), expected)
    without_zero = [[[0, 0], [0, 1]]]
    np.testing.assert_array_equal(FORMS[form](prediction, label, 2, ignore=0), without_zero)


def test_each_backend_gets_its_form(backend):
    rng = np.random.default_rng(0)
    prediction, label = rng.integers(5, size=(2, 2, 9, 8)).astype(np.int32)
    matrix = jax.jit(functools.partial(ops.confusion_matrix, num_classes=5))(prediction, label)
    np.testing.assert_array_equal(matrix, counts(prediction, label, 5))


@pytest.mark.parametrize(("platform", "scatters"), [("cpu", True), ("cuda", False), ("tpu", False)])
def test_accelerators_get_products(platform, scatters):
    images = jax.ShapeDtypeStruct((2, 512, 512), jnp.int32)
    count = jax.jit(functools.partial(ops.confusion_matrix, num_classes=150))
    program = count.trace(images, images).lower(lowering_platforms=(platform,)).as_text()
    assert ("stablehlo.scatter" in program) == scatters
    assert ("stablehlo.dot_general" in program) != scatters
