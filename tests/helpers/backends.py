"""Choice of the forms of the ops: what CPUs run, or all other backends."""

import contextlib

import jax
import pytest

BACKENDS = ("cpu", "default")


def _default_only(*inputs, default, **_):
    return default(*inputs)


@contextlib.contextmanager
def selected(backend: str):
    """Makes the public functions run what CPUs run ("cpu"), or all others ("default").

    It holds where a program is traced: a function that was compiled before stays as it is.
    """
    with pytest.MonkeyPatch.context() as patch:
        if backend == "default":
            patch.setattr(jax.lax, "platform_dependent", _default_only)
        yield
