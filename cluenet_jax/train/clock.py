"""From epochs to steps. All settings of duration are epochs; the loop counts steps.

An epoch is over when as many examples have been seen as the training set has.
Batches may straddle two epochs: no example is ever dropped.
"""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Clock:
    """Relates steps to epochs for one training set and batch size.

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

    def passes(self, step: int, every: float) -> bool:
        """Whether step number `step` (from 1) completes another `every` epochs."""
        interval = max(1, round(every * self.num_examples))
        return step * self.batch_size // interval > (step - 1) * self.batch_size // interval
