"""Examples in batches of one shape."""

import numpy as np

from cluenet_jax.data import batched_by_shape, shapes_of


def example(number: int, side: int) -> dict:
    return {"image": np.full((side, side, 3), number, np.uint8)}


def numbers(batches) -> list[list[int]]:
    return [[int(e["image"][0, 0, 0]) for e in batch] for batch in batches]


def test_batches_hold_everything_in_order():
    assert numbers(batched_by_shape((example(i, 4) for i in range(5)), 2)) == [[0, 1], [2, 3], [4]]
    assert numbers(batched_by_shape([], 2)) == []


def test_a_batch_ends_where_the_shape_changes():
    sides = [4, 4, 4, 6, 4, 6, 6]
    examples = [example(i, side) for i, side in enumerate(sides)]
    assert numbers(batched_by_shape(examples, 2)) == [[0, 1], [2], [3], [4], [5, 6]]


def test_shapes_are_equal_in_any_order_of_names():
    both = {"a": np.zeros((2, 3)), "b": np.zeros(())}
    assert shapes_of(both) == shapes_of(dict(reversed(both.items())))
    assert shapes_of(both) != shapes_of({**both, "a": np.zeros((3, 2))}) and hash(shapes_of(both))
