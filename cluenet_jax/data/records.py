"""Keys, shapes and types of records, examples and batches.

Record: what a source gives, still encoded. `image` (bytes of a file of any format that
`decode_image` reads), `name` (str, for messages), and the truth: `label` (int); or `mask` (bytes
of a PNG file) with `mask_format` (a `MaskFormat`, which `decode_mask` needs); or `instances` (an
`Instances`) with `size` (height and width of the image) and `image_id` (int, unique in its split).

Example: what a task makes of a record. Arrays of shapes and types that are the same for all
records of a split, such as `image` uint8 `[S, S, 3]` and `label` int32 `[]`.

Batch: examples stacked along a new leading axis B, and `valid` bool `[B]`: False for the examples
that only fill up the last batch of an evaluation.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np

Record = dict[str, Any]
Example = dict[str, np.ndarray]
Batch = dict[str, np.ndarray]


class Source(Protocol):
    """Random access to the records of one split; worker processes receive a pickled copy."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record:
        """Raises a `UserError` that names the record if it cannot be read."""
        ...


def batched_by_shape(examples: Iterable[Example], size: int) -> Iterator[list[Example]]:
    """Lists of at most `size` examples in a row whose arrays are of the same shapes."""
    batch: list[Example] = []
    for example in examples:
        if batch and (len(batch) == size or shapes_of(example) != shapes_of(batch[0])):
            yield batch
            batch = []
        batch.append(example)
    if batch:
        yield batch


def shapes_of(example: Example) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """The names of an example's arrays and their shapes, hashable."""
    return tuple(sorted((name, array.shape) for name, array in example.items()))
