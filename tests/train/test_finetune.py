"""Fine-tuning from the weights in the package, by their name."""

import jax
import numpy as np
from flax import traverse_util

from cluenet_jax import load_pretrained
from cluenet_jax.config import default_config
from cluenet_jax.models.settings import model_from_config
from cluenet_jax.pretrained import DEFAULT
from cluenet_jax.train.finetune import initial_variables
from tests.helpers.models import random_images, random_variables


def test_all_is_taken_but_the_classifier_of_other_classes():
    config = default_config()
    config.init.checkpoint = DEFAULT
    variables = random_variables(model_from_config(config.model, 3), random_images(1, 32, 32, 3))
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    taken = initial_variables(config, variables, sharding)["params"]
    theirs = load_pretrained(DEFAULT).variables["params"]
    jax.tree.map(np.testing.assert_array_equal, taken["backbone"], theirs["backbone"])
    # Of the head, what has the same shapes for any number of classes is taken too.
    ours, random, theirs = (
        traverse_util.flatten_dict(tree["head"], sep="/")
        for tree in (taken, variables["params"], theirs)
    )
    sources = {name: random if leaf.shape[-1] == 3 else theirs for name, leaf in ours.items()}
    assert {id(source) for source in sources.values()} == {id(random), id(theirs)}
    for name, source in sources.items():
        np.testing.assert_array_equal(ours[name], source[name], name)
