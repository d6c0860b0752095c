"""A linear classifier of images of 8 pixels: enough of a model for one step."""

import jax
import numpy as np
import optax
from flax import linen as nn

from cluenet_jax.config import default_config
from cluenet_jax.data import DatasetInfo
from cluenet_jax.models.batch_norm import BatchNorm
from cluenet_jax.tasks import create_task
from cluenet_jax.train import sharding
from cluenet_jax.train.optimizer import make_optimizer
from cluenet_jax.train.state import create_state
from cluenet_jax.train.step import make_train_step

INFO = DatasetInfo("digits", tuple("abcdefg"), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


class Linear(nn.Module):
    """Logits of the flattened image; with `stats` a running mean in another collection."""

    stats: bool = False

    @nn.compact
    def __call__(self, images, train=False):
        x = images.reshape(len(images), -1)
        if self.stats:
            x = BatchNorm()(x, train)
        return nn.Dense(7)(x)


def linear_task(config=None):
    config = config or default_config()
    config.data.image_size = 8
    return create_task(config, INFO)


def linear_batch() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (8, 8, 8, 3), dtype=np.uint8),
        "label": np.arange(8, dtype=np.int32) % 7,
        "valid": np.ones(8, bool),
    }


def linear_trainer(config=None, model=None, optimizer=None):
    """A jitted step, a first state and a batch on the devices."""
    config = config or default_config()
    model = model or Linear()
    schedule = optax.constant_schedule(1e-2)
    optimizer = optimizer or make_optimizer(config.optim, schedule)
    task, mesh = linear_task(config), sharding.make_mesh()
    state = create_state(
        model,
        optimizer,
        task.preprocessing.shape,
        task.train_metrics,
        0,
        lambda shapes: sharding.replicated(mesh),
        ema=config.optim.ema_decay > 0,
    )
    step = make_train_step(task, model, optimizer, schedule, config.optim, config.seed)
    return jax.jit(step), state, sharding.to_devices(linear_batch(), mesh)
