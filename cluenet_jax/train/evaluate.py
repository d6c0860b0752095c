"""Scores of a network on a whole data set, every example counted once."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from cluenet_jax.train.sharding import to_devices


def evaluate(
    eval_step: Callable,
    params: Any,
    batches: Iterable[dict[str, np.ndarray]],
    mesh: Mesh,
) -> dict[str, float]:
    """Means over all examples of `batches`.

    Args:
      eval_step: Jitted, of `make_eval_step`.
      params: The network's parameters.
      batches: Of `eval_batches`: padded and masked.
      mesh: The devices.

    Returns:
      `loss` in nats, `top1` (and `top3`, `top5`) in 0 .. 1, `count` examples.
    """
    sums = [eval_step(params, to_devices(batch, mesh)) for batch in batches]
    # In float64, so that the order of batches cannot show in a large set.
    totals = jax.tree.map(lambda *x: float(np.sum(x, dtype=np.float64)), *jax.device_get(sums))
    count = totals.pop("count")
    return {**{name: total / count for name, total in totals.items()}, "count": count}
