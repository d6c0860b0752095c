"""The order in which the examples of a source are read: pure functions of the seed."""

import dataclasses
from collections.abc import Hashable, Sequence

import numpy as np

# Examples after which a stream ends: never, in practice. Grain's endless `repeat()`
# overflows when a process takes one row of each batch.
NUM_EXAMPLES = 2**50


def train_order(count: int, seed: int) -> Sequence[int]:
    """The examples' indices, each epoch in an order of its own."""
    import grain

    return grain.MapDataset.range(count).seed(seed).shuffle().repeat(-(-NUM_EXAMPLES // count))


@dataclasses.dataclass(frozen=True, eq=False)
class GroupedOrder:
    """Endless indices, each epoch in an order of its own, every batch of one group.

    An epoch holds each example once; where a group does not fill its last batch, some of it, other
    ones in each epoch, fill it up.

    Attributes:
      groups: The indices of each group, int64, none empty.
      batch_size: Of whole batches.
      seed: Of the draws.
    """

    groups: tuple[np.ndarray, ...]
    batch_size: int
    seed: int
    _epochs: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def epoch_length(self) -> int:
        """Number of examples in an epoch, with those that fill batches up."""
        return sum(-(-len(group) // self.batch_size) for group in self.groups) * self.batch_size

    def __getitem__(self, position: int) -> int:
        number, offset = divmod(position, self.epoch_length)
        epoch = self._epochs.get(number)
        if epoch is None:
            epoch = self._epochs[number] = self._draw_epoch(number)
            # Threads that read ahead are at most in the next one.
            for earlier in [key for key in [*self._epochs] if key < number - 1]:
                self._epochs.pop(earlier, None)
        return int(epoch[offset])

    def _draw_epoch(self, number: int) -> np.ndarray:
        """int64 `[epoch_length]`."""
        rng = np.random.default_rng((self.seed, number))
        batches = []
        for group in self.groups:
            shuffled = rng.permutation(group)
            length = -(-len(group) // self.batch_size) * self.batch_size
            batches.append(np.resize(shuffled, length).reshape(-1, self.batch_size))
        return rng.permutation(np.concatenate(batches)).ravel()


def indices_by_group(groups: Sequence[Hashable]) -> list[np.ndarray]:
    """The indices of each group, int64, of the group of each index."""
    indices: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        indices.setdefault(group, []).append(index)
    return [np.array(members) for members in indices.values()]


def eval_order(groups: Sequence[Hashable], batch_size: int) -> list[tuple[int, bool]]:
    """Indices in whole batches of one group, and whether they count or only fill a batch up."""
    order = []
    for members in map(np.ndarray.tolist, indices_by_group(groups)):
        order += [(index, True) for index in members]
        order += [(members[0], False)] * (-len(members) % batch_size)
    return order
