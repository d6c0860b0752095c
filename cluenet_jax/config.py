"""Every setting with its default.

A file in `configs/` is a recipe: it calls `default_config()` and overrides values, it never
declares a field.
"""

from typing import Any

import ml_collections
from ml_collections import config_dict

from cluenet_jax.models.backbones import FAMILIES
from cluenet_jax.models.heads import HEADS
from cluenet_jax.models.settings import family_options, head_options
from cluenet_jax.tasks import TASKS


def default_config(task: str = "classification") -> ml_collections.ConfigDict:
    """The schema of a task: all settings and their defaults, locked against new keys.

    Args:
      task: A name of `cluenet_jax.tasks.TASKS`; its own sections are added.
    """
    config = ml_collections.ConfigDict(
        dict(
            seed=0,
            task=task,
            init=_init(),
            model=_model(),
            data=_data(),
            train=_train(),
            optim=_optim(),
            eval=_eval(),
            checkpoint=_checkpoint(),
        )
    )
    config.update(TASKS[task].default_config())
    return config.lock()


def see_every_fourth_pixel(config: ml_collections.ConfigDict) -> None:
    """Gives the backbone the first patch of the published sizes; a nano model's own is finer."""
    family = config.model.backbone.split("_")[0]
    config.model[family].patch = (7, 4) if family == "clustr" else (4, 4, 0)


def _init() -> dict[str, Any]:
    """Weights to start from (fine-tuning), given as `cluenet_jax.checkpoints.load` takes them."""
    return dict(
        # All of the model; the head only where its arrays have the same shapes.
        checkpoint="",
        # The backbone alone, of a checkpoint of any task.
        backbone="",
    )


def _model() -> dict[str, Any]:
    """The model."""
    return dict(
        backbone="cluenet_nano",
        head="linear",
        # Type of the matrix products: "float32" or "bfloat16".
        dtype="float32",
        # Drop rate of the last block; None: the variant's own.
        drop_path=config_dict.placeholder(float),
        # "none", "dots" or "blocks": saves memory in training, costs time.
        remat="none",
        # Options of a family that differ from the variant's own.
        **{name: _placeholders(family_options(name)) for name in FAMILIES},
        # Options of a head that differ from its own.
        **{name: _placeholders(head_options(name)) for name in HEADS if head_options(name)},
    )


def _data() -> dict[str, Any]:
    """The dataset, and how it is read."""
    return dict(
        name="digits",
        # TFDS's data directory, or the root of an image folder.
        dir="",
        # TFDS split expressions such as "train[:10%]"; "" for the dataset's own.
        train_split="",
        eval_split="",
        # Side of the square that models see, in pixels.
        image_size=32,
        # 0: threads of this process; n: n worker processes; -1: one per core.
        num_workers=0,
        # Repeated augmentation: how often an example is repeated in a row. An epoch is
        # still as many images as the training set has.
        num_repeats=1,
        # Keep decoded images in this process's memory: for small sets. Changes no
        # batch. What is augmented on the host must be off.
        cache=False,
        # Fraction of the training images that may be corrupt: they are named, counted
        # and skipped. Images of the evaluation are never skipped.
        max_corrupt_fraction=0.01,
    )


def _train() -> dict[str, Any]:
    """The loop."""
    return dict(
        # End after so many steps instead of optim.epochs; 0: all epochs.
        max_steps=0,
        # In steps.
        log_every=50,
        # Shard parameters and optimizer state over the devices (FSDP) instead of a
        # whole copy on each.
        shard_params=False,
        # So many skipped steps in a row (checked every log_every) end the run.
        max_consecutive_skips=100,
    )


def _optim() -> dict[str, Any]:
    """The optimizer and its schedule."""
    return dict(
        # Images per step, over all devices.
        batch_size=128,
        # Parts of a batch that are computed one after the other, to save memory.
        grad_accum_steps=1,
        # AdamW.
        peak_lr=1e-3,
        weight_decay=0.05,
        # What does not decay: "none"; "norm", the parameters of norms; "norm_and_bias", these and
        # biases and scalars.
        no_weight_decay="none",
        # Epochs of the decay, warm-up among them.
        epochs=100.0,
        # "cosine"; "poly": a power of the fraction of the epochs that is left; "steps": times
        # decay_factor after each of decay_epochs.
        decay="cosine",
        poly_power=1.0,
        decay_epochs=(),
        decay_factor=0.1,
        warmup_epochs=5.0,
        warmup_lr=1e-6,
        min_lr=1e-5,
        # Epochs at min_lr after the decay, beyond optim.epochs.
        cooldown_epochs=0.0,
        # "epoch": the learning rate changes once an epoch, as published; or "step".
        lr_update="epoch",
        # Global norm of the gradient; 0: no clipping.
        clip_norm=0.0,
        # Decay of the averaged parameters that are evaluated and saved; 0: none.
        ema_decay=0.0,
        # Fine-tuning: train the head alone, or at a learning rate times this.
        freeze_backbone=False,
        head_lr_scale=1.0,
        # A step whose loss is not finite or above this is skipped.
        max_loss=1e5,
    )


def _eval() -> dict[str, Any]:
    """The evaluation, and how images are prepared for it."""
    return dict(
        # In epochs; fractions are fine.
        every=1.0,
        batch_size=256,
        # Shorter side before the center crop; 0 resizes straight to data.image_size.
        resize=0,
        interpolation="bicubic",
    )


def _checkpoint() -> dict[str, Any]:
    """The checkpoints that are saved and kept."""
    return dict(
        # In epochs; fractions are fine. Every evaluation saves one too.
        every=1.0,
        # Checkpoints kept: the latest, and the best by the task's metric.
        keep_latest=2,
        keep_best=1,
    )


def _placeholders(types: dict[str, type]) -> dict[str, Any]:
    return {name: config_dict.placeholder(kind) for name, kind in types.items()}


def config_from_dict(values: dict[str, Any]) -> ml_collections.ConfigDict:
    """A configuration of plain values; settings that it lacks get their defaults.

    Args:
      values: Of `ConfigDict.to_dict()`, perhaps through JSON: lists become tuples. Settings
        that are no longer known are left out.
    """
    config = default_config(values["task"])

    def fill(section: ml_collections.ConfigDict, values: dict[str, Any]) -> None:
        for key, value in values.items():
            if key not in section:
                continue  # A setting of another version.
            if isinstance(value, dict):
                fill(section[key], value)
            else:
                section[key] = as_tuples(value)

    fill(config, values)
    return config


def as_tuples(value: Any) -> Any:
    """A value of a setting as read from JSON: lists become tuples, those within lists too."""
    return tuple(map(as_tuples, value)) if isinstance(value, list) else value
