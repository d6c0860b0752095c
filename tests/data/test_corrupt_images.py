"""Corrupt images in the streams: named, skipped and counted, up to a fraction."""

import numpy as np
import pytest

from cluenet_jax.data import eval_batches, train_batches
from cluenet_jax.errors import ImageError, UserError
from tests.helpers.images import ImageSource
from tests.helpers.streams import CorruptImages, assert_same, eval_example, plain_example, take


def test_a_corrupt_image_is_named():
    with pytest.raises(ImageError, match=r"image \d+: not a readable image"):
        next(train_batches(CorruptImages(4), plain_example, batch_size=2, seed=0))
    with pytest.raises(ImageError, match="image 0: not a readable image"):
        next(eval_batches(CorruptImages(4), eval_example, batch_size=2))


def test_a_corrupt_image_is_named_by_a_worker_process_too():
    stream = train_batches(CorruptImages(4), plain_example, batch_size=2, seed=0, num_workers=1)
    with pytest.raises(ImageError, match=r"image \d+: not a readable image"):
        next(stream)
    stream.close()


@pytest.mark.parametrize("options", [{}, {"num_workers": 2}, {"cache": True}], ids=str)
def test_corrupt_images_are_skipped_named_and_counted(options, caplog):
    """Whoever reads: the others keep their rows, the same image is the replacement."""
    source = CorruptImages(20, corrupt={3, 11})
    settings = dict(batch_size=10, seed=3, max_corrupt_fraction=0.1, **options)
    stream = train_batches(source, plain_example, **settings)
    batches = [{k: np.array(v) for k, v in next(stream).items()} for _ in range(4)]
    stream.close()
    assert stream.corrupt == {3, 11}
    for index in stream.corrupt:
        assert f"image {index}: not a readable image" in caplog.text
    assert "SKIPPED a corrupt image, number 2 of at most 2" in caplog.text
    assert caplog.text.count("SKIPPED") == 2, "each is named once"
    whole = take(4, batch_size=10)
    for ours, theirs in zip(batches, whole, strict=True):
        assert ours.keys() == theirs.keys() == {"image", "label", "valid"}
        replaced = np.isin(theirs["label"], [3, 11])
        np.testing.assert_array_equal(ours["label"][~replaced], theirs["label"][~replaced])
        assert not np.isin(ours["label"], [3, 11]).any()
        np.testing.assert_array_equal(ours["image"][:, 0, 0, 0], ours["label"])
    assert_same(take(3, source=source, start_step=1, **settings), batches[1:])


@pytest.mark.parametrize("cache", [False, True])
def test_too_many_corrupt_images_end_the_run(cache):
    source = CorruptImages(20, corrupt={3, 7, 11})
    settings = dict(batch_size=10, seed=3, max_corrupt_fraction=0.1, cache=cache)
    stream = train_batches(source, plain_example, **settings)
    with pytest.raises(
        UserError,
        match=r"3 of 20 training images are corrupt, more than data\.max_corrupt_fraction=0\.1 "
        r"allows \(2\)\. The last one: image \d+: not a .* Fix or remove them, or allow more\.",
    ):
        for _ in range(2):
            next(stream)


def test_many_corrupt_images_in_a_row_end_the_run():
    settings = dict(batch_size=4, seed=0, max_corrupt_fraction=0.9)
    stream = train_batches(CorruptImages(20), plain_example, **settings)
    with pytest.raises(UserError, match="8 images in a row are corrupt; the last one: image"):
        next(stream)


def test_an_image_that_can_be_read_again_is_counted_too(caplog):
    class FailsOnce(ImageSource):
        failed = False

        def __getitem__(self, index):
            record = super().__getitem__(index)
            if index == 3 and not self.failed:
                self.failed = True
                return {**record, "image": b"nothing"}
            return record

    settings = dict(batch_size=20, seed=0, max_corrupt_fraction=0.1)
    stream = train_batches(FailsOnce(20), plain_example, **settings)
    for _ in range(20):  # Threads read several batches at a time.
        next(stream)
    stream.close()
    assert stream.corrupt == {3}
    assert "image 3: could not be read a moment ago, but can be now." in caplog.text
