"""Agreement with segmentation masks, in known cases."""

import numpy as np
import pytest

from cluenet_jax import explain


def test_agreement_with_masks():
    regions = np.array([[[0, 0, 1], [2, 2, 1]]])
    for masks in (regions, 5 - regions):
        agreement = explain.mask_agreement(regions, masks)
        assert agreement["miou"] == agreement["nmi"] == agreement["ari"] == 1
    half = np.array([[[0, 0, 0], [1, 1, 1]]])
    # 0 matches the region of its two first pixels, 2 of 3; 1 likewise.
    np.testing.assert_allclose(explain.mask_agreement(regions, half)["miou"], 2 / 3)
    whole = np.zeros((1, 2, 3), int)
    np.testing.assert_allclose(explain.mask_agreement(whole, half)["miou"], 0.25)
    ignored = np.array([[[0, 0, -1], [1, 1, -1]]])
    assert explain.mask_agreement(regions, ignored)["ari"] == 1
    assert np.isnan(explain.mask_agreement(regions, -np.ones_like(regions))["miou"])
    with pytest.raises(ValueError, match="shape"):
        explain.mask_agreement(regions, half[:, :1])


def random_case(seed: int, segments: int = 5, regions: int = 12):
    """A mask of blocks with pixels that are not counted, and regions of other blocks."""
    rng = np.random.default_rng(seed)
    mask = rng.integers(-1, segments, (6, 7)).repeat(3, 0).repeat(2, 1)
    partition = rng.integers(0, regions, (9, 7)).repeat(2, 0).repeat(2, 1)
    return partition, mask


def measure(partition, mask, tolerance: int = 2) -> dict[str, float]:
    agreement = explain.mask_agreement(partition[None], mask[None], tolerance)
    return {name: float(value[0]) for name, value in agreement.items()}


def slow_measures(partition, mask, tolerance: int) -> dict[str, float]:
    """The definitions, pixel by pixel."""
    counted = [
        (y, x) for y in range(mask.shape[0]) for x in range(mask.shape[1]) if mask[y, x] >= 0
    ]
    right, error = 0, 0
    for region in np.unique(partition):
        own = [mask[place] for place in counted if partition[place] == region]
        sizes = [own.count(segment) for segment in set(own)]
        right += max(sizes, default=0)
        error += sum(min(size, len(own) - size) for size in sizes)

    def boundary(index, y, x, valid):
        for other in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            inside = 0 <= other[0] < index.shape[0] and 0 <= other[1] < index.shape[1]
            if (
                inside
                and index[other] != index[y, x]
                and valid(index[y, x])
                and valid(index[other])
            ):
                return True
        return False

    hits = []
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            if boundary(mask, y, x, lambda label: label >= 0):
                near = [
                    boundary(partition, v, u, lambda number: True)
                    for v in range(max(0, y - tolerance), min(mask.shape[0], y + tolerance + 1))
                    for u in range(max(0, x - tolerance), min(mask.shape[1], x + tolerance + 1))
                ]
                hits.append(any(near))
    return dict(
        asa=right / len(counted),
        undersegmentation=error / len(counted),
        boundary_recall=np.mean(hits),
    )


@pytest.mark.parametrize("seed", range(8))
def test_measures_are_those_of_the_definitions(seed):
    partition, mask = random_case(seed)
    for tolerance in (0, 1):
        ours = measure(partition, mask, tolerance)
        for name, value in slow_measures(partition, mask, tolerance).items():
            np.testing.assert_allclose(ours[name], value, err_msg=name)


@pytest.mark.parametrize("seed", range(20))
def test_laws(seed):
    partition, mask = random_case(seed)
    # Perfect, however its regions are numbered, also where nothing is counted.
    perfect = measure(np.where(mask < 0, partition, 90 - mask), mask)
    for name in ("asa", "nmi", "ari", "miou", "boundary_recall"):
        np.testing.assert_allclose(perfect[name], 1, err_msg=name)
    assert perfect["undersegmentation"] == 0
    # One region: the largest segment is right, no boundary is found, nothing is learned.
    whole = measure(np.zeros_like(mask), mask)
    sizes = np.bincount(mask[mask >= 0])
    np.testing.assert_allclose(whole["asa"], sizes.max() / sizes.sum())
    np.testing.assert_allclose(whole["nmi"], 0, atol=1e-12)
    assert whole["boundary_recall"] == 0
    # Pixels by themselves are right, and all boundaries are found.
    pixels = measure(np.arange(mask.size).reshape(mask.shape), mask)
    assert pixels["asa"] == pixels["boundary_recall"] == 1 and pixels["undersegmentation"] == 0


@pytest.mark.parametrize("seed", range(20))
def test_a_refinement_never_loses(seed):
    partition, mask = random_case(seed)
    rng = np.random.default_rng(seed)
    finer = partition * 3 + rng.integers(0, 3, mask.shape)
    coarse, fine = measure(partition, mask), measure(finer, mask)
    assert fine["asa"] >= coarse["asa"] and fine["boundary_recall"] >= coarse["boundary_recall"]
    assert fine["undersegmentation"] <= coarse["undersegmentation"]


@pytest.mark.parametrize("seed", range(5))
def test_numbers_of_regions_and_segments_mean_nothing(seed):
    partition, mask = random_case(seed)
    rng = np.random.default_rng(seed)
    renumbered = rng.permutation(1000)[partition]
    segments = np.where(mask < 0, -1, rng.permutation(9)[mask])
    first, second = measure(partition, mask), measure(renumbered, segments)
    for name, value in first.items():
        np.testing.assert_allclose(second[name], value, err_msg=name)


def test_what_is_not_counted_changes_nothing():
    partition, mask = random_case(0)
    other = np.where(mask < 0, partition + 50, partition)
    for name in ("asa", "undersegmentation", "nmi", "miou", "ari"):
        assert measure(partition, mask)[name] == measure(other, mask)[name]
    nothing = measure(partition, np.full_like(mask, -1))
    assert all(np.isnan(value) for value in nothing.values())
    assert np.isnan(measure(partition, np.zeros_like(mask))["boundary_recall"])


def test_intervals_hold_the_mean_and_shrink():
    rng = np.random.default_rng(0)
    widths = []
    for count in (25, 400):
        values = rng.normal(0.5, 0.1, count)
        low, high = explain.bootstrap_interval(values)
        assert low < values.mean() < high
        widths.append(high - low)
        # The interval of the normal distribution, roughly.
        np.testing.assert_allclose(high - low, 2 * 1.96 * 0.1 / np.sqrt(count), rtol=0.35)
    assert widths[1] < 0.4 * widths[0]
    with_nan = np.append(values, np.nan)
    assert explain.bootstrap_interval(values) == explain.bootstrap_interval(with_nan)
    assert explain.bootstrap_interval([0.25]) == (0.25, 0.25)
    assert np.isnan(explain.bootstrap_interval([np.nan])).all()
    narrow, wide = (explain.bootstrap_interval(values, level) for level in (0.5, 0.99))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_partitions_are_compared_on_the_same_images():
    comparison = explain.PartitionComparison()
    for seed in range(6):
        mask = random_case(seed)[1]
        grid = explain.grid_partition(mask.shape, 20)
        partitions = {"perfect": mask, "grid": grid, "half": np.stack([mask, np.zeros_like(mask)])}
        comparison.add(partitions, mask)
    table = comparison.compute()
    assert table["perfect"]["asa"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    asa = table["grid"]["asa"]
    assert asa["low"] < asa["mean"] < asa["high"] < 1
    assert list(table) == ["perfect", "grid", "half"] and "boundary_recall" in table["grid"]
    # Of several maps the mean counts.
    assert table["half"]["nmi"]["mean"] == pytest.approx(0.5)
    lines = comparison.to_text().splitlines()
    assert len(lines) == 4 and lines[1].startswith("perfect") and "1.000 ± 0.000" in lines[1]
