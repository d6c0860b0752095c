"""Every setting with its default, and the checks of a whole configuration.

A file in `configs/` is a recipe: it calls `default_config()` and overrides
values, it never declares a field.
"""

import ml_collections
from ml_collections import config_dict

from cluenet_jax.data import list_datasets
from cluenet_jax.data.host_augment import INTERPOLATIONS
from cluenet_jax.errors import UserError
from cluenet_jax.models import create_model

_ERASE_MODES = ("zeros", "noise")


def default_config() -> ml_collections.ConfigDict:
    """The schema: all settings and their defaults, locked against new keys."""
    none_or = config_dict.placeholder
    config = ml_collections.ConfigDict(
        dict(
            seed=0,
            # A checkpoint to begin with instead of random weights (fine-tuning): all
            # is taken but the head, and that too if the number of classes is the same.
            init_from="",
            # The network. None leaves an option at the variant's own value.
            model=dict(
                name="cluenet_nano",
                dtype="float32",
                drop_path=none_or(float),
                grid=none_or(tuple),
                pooling=none_or(str),
                gate=none_or(bool),
                share_assignment=none_or(bool),
                learn_temperature=none_or(bool),
                dispatch=none_or(str),
                cluster_scales=none_or(tuple),
                # "none", "dots" or "blocks": saves memory in training, costs time.
                remat=none_or(str),
            ),
            data=dict(
                name="digits",
                # TFDS's data directory, or the root of an image folder.
                dir="",
                # TFDS split expressions such as "train[:10%]"; "" for the dataset's own.
                train_split="",
                test_split="",
                # Side of the square that networks see, in pixels.
                image_size=32,
                # 0: threads of this process; n: n worker processes; -1: one per core.
                workers=0,
                # Read all pictures once and keep them on every device: for small sets.
                # Changes no batch. What is augmented on the host must be off.
                on_device=False,
                # Share of the training pictures that may be broken: they are named, counted
                # and skipped. Test pictures are never skipped.
                max_broken_share=0.01,
                # How test pictures are resized.
                interpolation="bicubic",
                # Shorter side before the centre crop; 0 resizes straight to image_size.
                test_resize=0,
                augment=dict(
                    # On the device, inside the jitted step.
                    crop_padding=0,
                    mirror=False,
                    erase_prob=0.0,
                    erase_area=(0.02, 0.2),
                    erase_aspect=(0.3, 3.3),
                    erase_mode="zeros",
                    # On the host, while decoding. (0, 0) and zeros: off.
                    resized_crop_area=(0.0, 0.0),
                    interpolation="bilinear",
                    color_jitter=(0.0, 0.0, 0.0, 0.0),
                    # Magnitude, 0 .. 10, and how much it varies.
                    rand_augment=(0.0, 0.0),
                ),
                # Repeated augmentation: how often an example stands in a row. An epoch
                # still is as many pictures as the training set has.
                repeats=1,
                # On the device: parameters of the Beta distributions, 0: off.
                mix=dict(mixup=0.0, cutmix=0.0),
            ),
            optim=dict(
                # Images per step, over all devices.
                batch_size=128,
                # AdamW.
                peak_lr=1e-3,
                weight_decay=0.05,
                # "all" parameters decay, or only "weights": no norms, biases and scalars.
                decay="all",
                # Epochs of the cosine, warm-up among them.
                epochs=100.0,
                warmup_epochs=5.0,
                warmup_lr=1e-6,
                final_lr=1e-5,
                # Epochs at final_lr after the cosine, beyond optim.epochs.
                cooldown_epochs=0.0,
                # "epoch": the rate changes once an epoch, as published; "step": every step.
                lr_per="epoch",
                # Global norm of the gradient; 0: no clipping.
                clip_norm=0.0,
                label_smoothing=0.0,
                # Parts of a batch that are computed one after the other, to save memory.
                accumulate=1,
                # Decay of the averaged parameters that are tested and saved; 0: none.
                ema_decay=0.0,
                # Fine-tuning: train the head alone, or at a rate times this.
                freeze_backbone=False,
                head_lr_scale=1.0,
                # A step whose loss is not finite or above this is skipped.
                max_loss=1e5,
            ),
            train=dict(
                # End after so many steps instead of optim.epochs; 0: all epochs.
                max_steps=0,
                # In epochs; fractions are fine.
                eval_every=1.0,
                checkpoint_every=1.0,
                # In steps.
                log_every=50,
                # Checkpoints kept: the latest, and the best by test accuracy.
                keep_latest=2,
                keep_best=1,
                # Cut parameters and optimiser state over the devices (FSDP) instead of a whole
                # copy on each.
                shard_params=False,
                # So many skipped steps in a row (looked at every log_every) end the run.
                max_skipped_in_a_row=100,
            ),
            eval=dict(batch_size=256),
        )
    )
    return config.lock()


def model_from_config(config: ml_collections.ConfigDict, num_classes: int):
    """Builds the network of `config.model` with `num_classes` logits.

    Raises:
      UserError: An unknown model, or an option it does not have.
    """
    options = model_overrides(config)
    try:
        return create_model(config.model.name, num_classes, **options)
    except (ValueError, TypeError) as error:
        raise UserError(f"config.model: {error}") from error


def model_overrides(config: ml_collections.ConfigDict) -> dict[str, object]:
    """The options of `config.model` that differ from the variant's own."""
    given = config.model.to_dict()
    return {k: v for k, v in given.items() if k != "name" and v is not None}


def check_config(config: ml_collections.ConfigDict, device_count: int) -> None:
    """Refuses a configuration that cannot run, before anything is read or written.

    Args:
      config: The whole configuration.
      device_count: Devices over all processes.

    Raises:
      UserError: Names the setting, its value, and what would be right.
    """
    model_from_config(config, num_classes=2)

    def require(ok: bool, key: str, what: str) -> None:
        if not ok:
            value = config
            for part in key.split("."):
                value = value[part]
            raise UserError(f"config.{key}={value!r}: {what}.")

    require(config.seed >= 0, "seed", "must be 0 or more")
    data, optim, train = config.data, config.optim, config.train
    require(data.name in list_datasets(), "data.name", f"known are {', '.join(list_datasets())}")
    require(data.image_size >= 1, "data.image_size", "must be at least 1 pixel")
    require(data.workers >= -1, "data.workers", "must be -1 (one per core), 0 or more")
    on_host = {
        "resized_crop_area": any(data.augment.resized_crop_area),
        "color_jitter": any(data.augment.color_jitter),
        "rand_augment": data.augment.rand_augment[0] > 0,
    }
    busy = [name for name, used in on_host.items() if used]
    require(
        not (data.on_device and busy),
        "data.on_device",
        f"data.augment.{', '.join(busy)} work on the host, on every picture anew; leave it False",
    )
    require(0 <= data.max_broken_share < 1, "data.max_broken_share", "must be in 0 .. 1")
    known = f"must be one of {', '.join(INTERPOLATIONS)}"
    require(data.interpolation in INTERPOLATIONS, "data.interpolation", known)
    require(data.augment.interpolation in INTERPOLATIONS, "data.augment.interpolation", known)
    require(
        data.augment.erase_mode in _ERASE_MODES,
        "data.augment.erase_mode",
        f"must be one of {', '.join(_ERASE_MODES)}",
    )
    require(0 <= data.augment.erase_prob <= 1, "data.augment.erase_prob", "must be in 0 .. 1")
    for batch, key in ((optim.batch_size, "optim"), (config.eval.batch_size, "eval")):
        require(
            batch > 0 and batch % device_count == 0,
            f"{key}.batch_size",
            f"must be a positive multiple of the {device_count} devices, for example "
            f"{max(batch // device_count, 1) * device_count}",
        )
    require(optim.epochs > 0, "optim.epochs", "must be above 0")
    require(0 <= optim.warmup_epochs <= optim.epochs, "optim.warmup_epochs", "in 0 .. epochs")
    require(optim.lr_per in ("epoch", "step"), "optim.lr_per", "must be 'epoch' or 'step'")
    require(optim.clip_norm >= 0, "optim.clip_norm", "must be 0 (off) or above")
    require(optim.decay in ("all", "weights"), "optim.decay", "must be 'all' or 'weights'")
    require(optim.cooldown_epochs >= 0, "optim.cooldown_epochs", "must be 0 or more")
    require(0 <= optim.ema_decay < 1, "optim.ema_decay", "must be at least 0 and below 1")
    require(
        optim.accumulate >= 1 and optim.batch_size % (optim.accumulate * device_count) == 0,
        "optim.accumulate",
        f"optim.batch_size={optim.batch_size} must divide into that many parts of a multiple of "
        f"the {device_count} devices",
    )
    require(data.repeats >= 1, "data.repeats", "must be at least 1")
    require(0 <= data.augment.rand_augment[0] <= 10, "data.augment.rand_augment", "in 0 .. 10")
    require(data.mix.mixup >= 0, "data.mix.mixup", "must be 0 (off) or above")
    require(data.mix.cutmix >= 0, "data.mix.cutmix", "must be 0 (off) or above")
    require(optim.head_lr_scale > 0, "optim.head_lr_scale", "must be above 0")
    require(0 <= optim.label_smoothing < 1, "optim.label_smoothing", "must be in 0 .. 1")
    require(train.eval_every > 0, "train.eval_every", "must be above 0 epochs")
    require(train.checkpoint_every > 0, "train.checkpoint_every", "must be above 0 epochs")
    require(train.log_every >= 1, "train.log_every", "must be at least 1 step")
    require(train.max_skipped_in_a_row >= 1, "train.max_skipped_in_a_row", "must be at least 1")
    require(train.keep_latest >= 1, "train.keep_latest", "must be at least 1")
    require(train.keep_best >= 0, "train.keep_best", "must be 0 or more")
