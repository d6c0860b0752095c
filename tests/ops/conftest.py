"""Fixtures of the tests of ops: strict types, and the forms that the backends run."""

import pytest


@pytest.fixture(autouse=True)
def strict_types():
    """No silent promotion of types in the ops. (Flax itself does not pass this.)"""
    import jax

    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture
def select_backend(monkeypatch):
    """Makes the public functions run what CPUs run ("cpu"), or all others ("default")."""
    import jax

    real = jax.lax.platform_dependent

    def default_only(*inputs, default, **_):
        return default(*inputs)

    def select(backend: str) -> None:
        form = {"cpu": real, "default": default_only}[backend]
        monkeypatch.setattr(jax.lax, "platform_dependent", form)

    return select


@pytest.fixture(params=["cpu", "default"])
def backend(request, select_backend):
    """Runs a test once for CPUs, and once for all other backends."""
    select_backend(request.param)
