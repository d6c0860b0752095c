"""Fixtures of the tests of ops: strict types, and the forms that the backends run."""

import contextlib

import pytest


@pytest.fixture(autouse=True)
def strict_types():
    """No silent promotion of types in the ops. (Flax itself does not pass this.)"""
    import jax

    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture
def select_backend():
    """Makes the public functions run what CPUs run ("cpu"), or all others ("default")."""
    from tests.helpers.backends import selected

    with contextlib.ExitStack() as stack:
        yield lambda backend: (stack.close(), stack.enter_context(selected(backend)))


@pytest.fixture(params=["cpu", "default"])
def backend(request, select_backend):
    """Runs a test once for CPUs, and once for all other backends."""
    select_backend(request.param)
