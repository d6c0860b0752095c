"""Clusters of detected instances: the best union against all unions, windows, agreement."""

import itertools

import numpy as np
import pytest

from cluenet_jax import explain


def iou(union, mask):
    return (union & mask).sum() / (union | mask).sum()


@pytest.mark.parametrize("seed", range(5))
def test_no_union_is_better_than_the_best(seed):
    rng = np.random.default_rng(seed)
    regions, mask = 3 * rng.integers(0, 6, (7, 8)), rng.random((7, 8)) < 0.4
    numbers = np.unique(regions)
    unions = itertools.chain.from_iterable(
        itertools.combinations(numbers, k) for k in range(1, len(numbers) + 1)
    )
    expected = max(iou(np.isin(regions, union), mask) for union in unions)
    chosen, value = explain.best_union(regions, mask)
    assert value == pytest.approx(expected)
    assert iou(np.isin(regions, chosen), mask) == pytest.approx(expected)


def test_a_mask_of_no_pixel_has_no_regions():
    regions = np.arange(12).reshape(3, 4)
    chosen, value = explain.best_union(regions, np.zeros((3, 4), bool))
    assert len(chosen) == 0 and value == 0
    with pytest.raises(ValueError, match=r"regions have shape \(3, 4\)"):
        explain.best_union(regions, np.zeros((4, 3), bool))


def instance(box, shape=(40, 60)):
    x1, y1, x2, y2 = map(int, box)
    mask = np.zeros(shape, bool)
    mask[y1:y2, x1:x2] = True
    return explain.Instance("dog", 0.75, np.float32(box), mask)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((20, 10, 30, 20), (8, 22, 18, 32)),
        ((0, 0, 10, 10), (0, 13, 0, 13)),
        ((50, 30, 60, 40), (27, 40, 47, 60)),
        ((0, 10, 60, 20), (0, 40, 0, 60)),
        ((60, 40, 60, 40), (38, 40, 58, 60)),
    ],
)
def test_a_window_is_square_where_it_can_be(box, expected):
    rows, columns = instance(box).window
    bounds = (rows.start, rows.stop, columns.start, columns.stop)
    assert np.abs(np.subtract(bounds, expected)).max() <= 1, bounds
    assert instance(box).mask[rows, columns].sum() == instance(box).mask.sum()


def test_clusters_shared_with_other_objects_count_in_the_whole_image_alone():
    dog = instance((20, 10, 30, 20))
    shared = dog.mask.astype(int)
    shared[:, 45:] = 1
    halves = dog.mask.astype(int)
    halves[15:] *= 2
    agreement = explain.instance_agreement({"stage 1": np.stack([shared, halves])}, dog)
    assert list(agreement) == ["stage 1, head 0", "stage 1, head 1"]
    first, second = agreement.values()
    assert first["iou"] == 1 and first["regions"] == [1] and first["asa"] == 1
    assert first["image_iou"] == pytest.approx(100 / 700, abs=1e-4)
    assert second["iou"] == second["image_iou"] == 1 and second["regions"] == [1, 2]
    assert second["boundary_recall"] == 1
    everything = explain.Instance("dog", 0.5, dog.box, np.ones_like(dog.mask))
    assert explain.instance_agreement({"x": shared}, everything)["x"]["boundary_recall"] is None


def test_a_comparison_has_the_means_of_instances_and_heads():
    dog, comparison = instance((20, 10, 30, 20)), explain.InstanceComparison()
    assert comparison.add({}, [], 0) == [] and "0 instances in 1 images." in comparison.to_text()
    exact, blind = dog.mask.astype(int), np.zeros_like(dog.mask, int)
    (row,) = comparison.add({"stage 1": np.stack([exact, blind])}, [dog], 3)
    overlaps = [row["stage 1, head 0"]["iou"], row["stage 1, head 1"]["iou"]]
    assert overlaps[0] == 1 and 0.4 < overlaps[1] < 0.7
    mean = comparison.compute()["stage 1"]
    assert mean["iou"] == pytest.approx(np.mean(overlaps))
    assert mean["image_iou"] == pytest.approx((1 + 100 / 2400) / 2, abs=1e-4)
    text = comparison.to_text()
    assert "3 instances in 2 images" in text and "of 1 masks" in text
    assert f"{mean['iou']:.3f}" in text
