"""A head or a model held against a recorded case, in both modes of BatchNorm."""

import functools

import jax

from cluenet_jax.weights import to_torch
from tests.helpers import dense
from tests.helpers.golden import relative_error

VALUES, GRADIENTS = 1e-5, 1e-4


def assert_close(ours: dict, theirs: dict, tolerance: float) -> None:
    """Every recorded array has its equal, relative to its largest value."""
    assert theirs, "nothing is recorded"
    errors = {name: relative_error(ours[name], array) for name, array in theirs.items()}
    worst = max(errors, key=errors.get)
    assert errors[worst] < tolerance, (worst, errors[worst])


def check_head(case: dict, head, loss, train: bool, **options) -> None:
    """Values, gradients and running statistics of a head without dropout.

    Args:
      case: Of `dense.load_dense`.
      head: The module.
      loss: From the head's output to the loss and what of the case it is to be compared with.
      train: The mode.
      **options: Other arguments of the head.
    """
    mode = "train/" if train else "eval/"
    variables, levels = dense.variables_of(case, head), dense.levels_of(case)

    @functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
    def run(params, levels):
        inputs = {**variables, "params": params}
        output, changes = head.apply(inputs, levels, train, mutable=["batch_stats"], **options)
        total, values = loss(output)
        return total, ({**values, "loss": total}, changes)

    (_, (values, changes)), grads = jax.jit(run)(variables["params"], levels)
    recorded = dense.part(case, mode)
    assert_close(values, {k: v for k, v in recorded.items() if k in values}, VALUES)
    named = dense.gradients_to_torch(variables, grads[0], head)
    theirs = dense.part(recorded, "grad/")
    assert named.keys() == theirs.keys()
    assert_close(named, theirs, GRADIENTS)
    if "grad_input/level0" in recorded:
        levels = {f"level{i}": grad for i, grad in enumerate(grads[1])}
        assert_close(levels, dense.part(recorded, "grad_input/"), GRADIENTS)
    if train:
        running = to_torch({**variables, **changes}, head)
        theirs = dense.part(recorded, "running/")
        assert theirs.keys() == running.keys() - named.keys()
        assert_close(running, theirs, VALUES)
