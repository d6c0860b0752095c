"""Durations in epochs as numbers of steps. All settings are epochs; the loop counts steps.

An epoch is over when as many examples have been read as the training set has.
Batches may straddle two epochs: no example is ever dropped.
"""

import dataclasses
import math

from cluenet_jax.settings import flag, integer

# The section `train` of a configuration.
SETTINGS = {
    "max_steps": integer(0),
    "log_every": integer(1),
    "shard_params": flag(),
    "max_consecutive_skips": integer(1),
}


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Relation of steps and epochs for one training set and batch size.

    Attributes:
      num_examples: Size of the training set.
      batch_size: Examples per step, over all devices.
    """

    num_examples: int
    batch_size: int

    def steps(self, epochs: float) -> int:
        """Steps until `epochs` are over, rounded up."""
        return math.ceil(round(epochs * self.num_examples) / self.batch_size)

    def epoch(self, step: int) -> float:
        """Epochs that are over after `step` steps."""
        return step * self.batch_size / self.num_examples

    def due(self, step: int, every: float) -> bool:
        """Whether step number `step` (from 1) completes another `every` epochs."""
        interval = max(1, round(every * self.num_examples))
        return step * self.batch_size // interval > (step - 1) * self.batch_size // interval
