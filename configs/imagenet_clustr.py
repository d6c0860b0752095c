"""ImageNet-1k from scratch with ClusTR, the published recipe (arXiv 2208.13138).

    python main.py --config=configs/imagenet_clustr.py:b2 --workdir=runs/clustr_b2

The letter after the colon is the variant: b1, b2 or b3. Published: 83.2 % top-1 for
b2 after 300 epochs and 10 more at the lowest learning rate, at 224 pixels, with 8 times 128
images a step. The learning rate follows the batch: give --config.optim.batch_size after the
variant as in `:b1,256` to have it scaled; --config.optim.grad_accum_steps=8 computes a batch
in eight parts, for machines of little memory. Our accuracy is not measured yet.
"""

from cluenet_jax.config import default_config


def get_config(variant="b2"):
    """300 epochs and 10 of cool-down, with every augmentation of the recipe."""
    name, _, batch = variant.partition(",")
    config = default_config()
    config.model.backbone = f"clustr_{name}"
    config.data.name = "imagenet2012"
    config.data.image_size = 224
    config.data.num_workers = -1
    config.eval.interpolation = "bicubic"
    config.eval.resize = 256
    config.data.num_repeats = 3
    config.augment.crop_area = (0.08, 1.0)
    config.augment.crop_interpolation = "bicubic"
    config.augment.horizontal_flip = True
    config.augment.rand_augment = (9.0, 0.5)
    config.augment.erase_prob = 0.25
    config.augment.erase_area = (0.02, 1 / 3)
    config.augment.erase_aspect = (0.3, 3.3)
    config.augment.erase_mode = "noise"
    config.augment.mixup = 0.8
    config.augment.cutmix = 1.0
    config.optim.batch_size = int(batch or 1024)
    config.optim.peak_lr = 5e-4 * config.optim.batch_size / 512
    config.optim.weight_decay = 0.05
    config.optim.no_weight_decay = "norm_and_bias"
    config.optim.epochs = 300.0
    config.optim.warmup_epochs = 5.0
    config.optim.warmup_lr = 1e-6
    config.optim.min_lr = 1e-5
    config.optim.cooldown_epochs = 10.0
    config.optim.lr_update = "epoch"
    config.classification.label_smoothing = 0.1
    config.optim.clip_norm = 1.0 if name == "b3" else 0.0
    config.checkpoint.every = 0.25
    config.eval.batch_size = 512
    return config
