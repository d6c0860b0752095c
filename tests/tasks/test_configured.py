"""What tasks of a configuration and a dataset have in common."""

import pytest

from cluenet_jax.check import check_config
from cluenet_jax.config import default_config
from cluenet_jax.data import describe_dataset
from cluenet_jax.errors import UserError
from cluenet_jax.tasks import create_task

DENSE = {"segmentation": "semantic_fpn or upernet", "detection": "mask_rcnn"}


@pytest.mark.parametrize(("task", "heads"), [("classification", "linear"), *DENSE.items()])
def test_the_head_of_another_task_is_refused(task, heads):
    config = default_config(task)
    check_config(config, device_count=1)
    config.model.head = "mask_rcnn" if task == "segmentation" else "upernet"
    with pytest.raises(UserError, match=rf"config\.model\.head.*{task} takes {heads}"):
        check_config(config, device_count=1)


@pytest.mark.parametrize("task", DENSE)
def test_images_that_change_are_not_cached(task):
    config = default_config(task)
    config.data.cache = True
    with pytest.raises(UserError, match=rf"config\.data\.cache.*{task} changes every image"):
        check_config(config, device_count=1)


@pytest.mark.parametrize(("task", "longer"), [("segmentation", 1200), ("detection", 500)])
def test_another_image_size_keeps_the_proportion_of_the_bounds(task, longer):
    """And the configuration can be run, whatever it said of a crop."""
    config = default_config(task)
    config.eval.resize = 256
    create_task(config, describe_dataset("digit_scenes")).set_image_size(config, 300)
    assert config[task].eval_scale == (longer, 300) and config.data.image_size == 300
    check_config(config, device_count=1)
