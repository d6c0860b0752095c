"""Figures of detected instances: what is colored, dimmed and outlined."""

import dataclasses

import numpy as np

from cluenet_jax import visualization
from cluenet_jax.explain import Instance
from cluenet_jax.visualization.instances import paint_instance
from tests.visualization.test_figures import explanation


def instance(name="cat"):
    mask = np.zeros((8, 8), bool)
    mask[2:6, 2:6] = True
    return Instance(name, 0.9, np.float32([2, 2, 6, 6]), mask)


def detected(*instances):
    return explanation(
        instances=instances,
        entries=[(i.name, i.score) for i in instances],
        least_score=0.25,
        truth=None,
        drawing=np.full((16, 16, 3), 250, np.uint8),
    )


def drawn(shown):
    return np.asarray(visualization.draw_explanation(shown, (0,), side=64))


def test_the_outside_is_dimmed_and_the_union_colored():
    image = np.full((8, 8, 3), 100, np.uint8)
    index = np.zeros((8, 8), int)
    index[:, 4:] = 1
    colors = np.where(index[..., None] == 1, [200, 0, 0], [0, 0, 200]).astype(np.uint8)
    pixels = paint_instance(image, instance(), 80, index, colors, np.array([1]))
    assert pixels.shape == (80, 80, 3)
    scale = 80 / (instance().window[0].stop - instance().window[0].start)

    def at(row, column):
        start = instance().window[0].start
        return pixels[round((row + 0.5 - start) * scale), round((column + 0.5 - start) * scale)]

    # Inside both clusters, outside that of the union and the other.
    assert at(3, 2).tolist() == [50, 50, 150] and at(3, 5).tolist() == [150, 50, 50]
    assert at(6, 5).tolist() == [52, 17, 17] and at(6, 2).tolist() == [35, 35, 35]
    plain = paint_instance(image, instance(), 80)
    assert (plain == 100).all(-1).mean() > 0.7 and (plain == 255).all(-1).any()


def test_large_instances_are_made_smaller():
    mask = np.ones((300, 200), bool)
    large = Instance("cat", 1.0, np.float32([0, 0, 200, 300]), mask)
    pixels = paint_instance(np.full((300, 200, 3), 90, np.uint8), large, 50)
    assert pixels.shape == (75, 50, 3) and (pixels == 90).all(-1).mean() > 0.9


def test_every_instance_and_head_has_its_row():
    sizes = {
        (count, heads): visualization.draw_instances(
            detected(*[instance()] * count), heads, side=32
        ).size
        for count, heads in ((1, (0,)), (2, (0,)), (1, (0, 1)))
    }
    (one, two, heads) = sizes.values()
    assert one[0] == two[0] == heads[0] > 6 * 32 and two[1] == heads[1] > one[1] + 32


def test_instances_and_the_lack_of_them_are_in_figures_sheets_and_reports():
    found, nothing = detected(instance("<cat>")), detected()
    assert nothing.note == "Nothing detected with a score of at least 25%" and not found.note
    answers = [dataclasses.replace(found, instances=()), found]
    sheets = [visualization.contact_sheet([answer], side=32) for answer in answers]
    assert np.asarray(sheets[1])[:, -32:].std() > np.asarray(sheets[0])[:, -32:].std()
    assert (np.asarray(sheets[0])[10:24, 12:36] == 250).all(), "the answer is in place of the image"
    quiet = dataclasses.replace(nothing, least_score=None)
    figures = [drawn(nothing), drawn(quiet)]
    assert (figures[0][:60] != figures[1][:60]).any(), "the title says that nothing was detected"
    text = visualization.report([found, nothing], "model", None, {})
    assert nothing.note in text and "&lt;cat&gt;: stage" in text and "<cat>" not in text


def test_figures_name_few_of_many_answers():
    few, many = (detected(*[instance()] * count) for count in (5, 50))
    figures = [drawn(few), drawn(many)]
    assert figures[0].shape == figures[1].shape and (figures[0] != figures[1]).any()
