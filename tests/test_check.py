"""Every setting with what it takes: what cannot be meant is refused, by its name."""

import math
import re

import pytest

from cluenet_jax.check import check_config
from cluenet_jax.config import config_from_dict, default_config
from cluenet_jax.errors import UserError
from tests.helpers.settings import flat_keys

NAN, INF = math.nan, math.inf
# Values that are tried on every setting, whatever it takes.
NASTY = [
    NAN, INF, -INF, -1, -0.5, -7, 0, 0.0, 1e30, True, False, None, "", "no such thing", (), (NAN,),
    (NAN, NAN), (0.5, NAN), (-1.0, 1.0), (1.0, 0.5), (0.1, 0.2, 0.3), (INF, INF), ("a", "b"),
    (NAN,) * 4, (-1, 1, 1, 1), (1, 1, 1, 1, 1), (0.0, 0.0), [], {}, 3.5, "nan",
]  # fmt: skip


def is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def whole(least, most=INF):
    return lambda v: is_number(v) and isinstance(v, int) and least <= v <= most


def between(low, high=INF, open_low=False, open_high=False):
    return lambda v: (
        is_number(v)
        and (v > low if open_low else v >= low)
        and (v < high if open_high else v <= high)
    )


def switch(value):
    return isinstance(value, bool)


def text(value):
    return isinstance(value, str)


def names(*known):
    return lambda v: v in known


def tuple_of(count, element):
    return lambda v: isinstance(v, tuple | list) and len(v) == count and all(map(element, v))


def several(element, least=1):
    return lambda v: isinstance(v, tuple | list) and len(v) >= least and all(map(element, v))


def ordered(element):
    pair = tuple_of(2, element)
    return lambda v: pair(v) and v[0] <= v[1]


def or_none(takes):
    return lambda v: v is None or takes(v)


FILTERS = names("nearest", "bilinear", "bicubic", "lanczos")
FOUR = tuple_of(4, whole(1))
# Options of the head of that name.
MASK_RCNN = {
    "masks": switch,
    "score_threshold": between(0, 1, open_high=True),
    "rpn_samples": whole(2),
    "roi_samples": whole(4),
    **{
        name: whole(1)
        for name in (
            "neck_width", "rpn_width", "box_width", "mask_width",
            "train_candidates", "train_proposals", "eval_candidates", "eval_proposals",
            "max_detections", "anchor_scale",
        )
    },
}  # fmt: skip
RETINANET = {
    "score_threshold": between(0, 1, open_high=True),
    "neck_width": whole(1),
    "width": whole(1),
    "eval_candidates": whole(1),
    "max_detections": whole(1),
}
HEATMAPS = {
    "heatmap_deconv.width": whole(1),
    "heatmap_deconv.num_doublings": whole(1),
    "heatmap_fpn.width": whole(1),
    "heatmap_mta.width": whole(1),
    "heatmap_mta.num_heads": whole(1),
    "heatmap_mta.mlp_ratio": whole(1),
}
# Options of the other families, which the default backbone does not have.
PEERS = [
    f"{family}.{name}"
    for family, own in {
        "coc": ["denominator"],
        "fec": [],
        "clusterformer": ["num_iterations", "memory_order", "unused_map"],
    }.items()
    for name in (
        "dims", "depths", "num_heads", "head_dim", "center_grids", "folds", "mlp_ratios", "patch",
        *own,
    )
]  # fmt: skip
# What every setting takes; values that pass here may still be refused in company.
TAKES = {
    "seed": whole(0, 2**32 - 1),
    "task": names("classification"),
    "init.checkpoint": text,
    "init.backbone": text,
    "model.backbone": names(),
    "model.head": names("linear"),
    "model.dtype": names("float32", "bfloat16"),
    "model.drop_path": or_none(between(0, 1, open_high=True)),
    "model.remat": names("none", "dots", "blocks"),
    "model.cluenet.dims": or_none(FOUR),
    "model.cluenet.depths": or_none(FOUR),
    "model.cluenet.num_heads": or_none(FOUR),
    "model.cluenet.head_dim": or_none(lambda v: whole(2)(v) and v % 2 == 0),
    "model.cluenet.center_grid": or_none(tuple_of(2, whole(1))),
    "model.cluenet.mlp_ratios": or_none(FOUR),
    "model.cluenet.patch": or_none(tuple_of(3, whole(0))),
    "model.cluenet.min_temperature": or_none(between(0, open_low=True)),
    "model.cluenet.norm_after_pooling": or_none(switch),
    "model.cluenet.pooling": or_none(names("icp", "fec", "shared")),
    "model.cluenet.gate": or_none(switch),
    "model.cluenet.share_assignment": or_none(switch),
    "model.cluenet.learn_temperature": or_none(switch),
    "model.cluenet.dispatch": or_none(names("hard", "soft")),
    "model.semantic_fpn.neck_width": or_none(lambda v: False),
    "model.semantic_fpn.width": or_none(lambda v: False),
    "model.semantic_fpn.dropout": or_none(lambda v: False),
    "model.upernet.width": or_none(lambda v: False),
    "model.upernet.auxiliary_width": or_none(lambda v: False),
    "model.upernet.dropout": or_none(lambda v: False),
    **{f"model.mask_rcnn.{name}": or_none(lambda v: False) for name in MASK_RCNN},
    **{f"model.retinanet.{name}": or_none(lambda v: False) for name in RETINANET},
    **{f"model.{name}": or_none(lambda v: False) for name in HEATMAPS},
    # The backbone is a CLUENet, which has no options of a ClusTR.
    **{
        f"model.clustr.{name}": or_none(lambda v: False)
        for name in (
            "dims", "depths", "num_heads", "mlp_ratios", "sr_ratios", "patch",
            "cluster_scales", "num_neighbors", "cluster_parts",
        )
    },
    **{f"model.{name}": or_none(lambda v: False) for name in PEERS},
    "data.name": names(),
    "data.dir": text,
    "data.train_split": text,
    "data.eval_split": text,
    "data.image_size": whole(1),
    "data.num_workers": whole(-1),
    "data.num_repeats": whole(1),
    "data.cache": switch,
    "data.max_corrupt_fraction": between(0, 1, open_high=True),
    "augment.crop_padding": whole(0),
    "augment.horizontal_flip": switch,
    "augment.erase_prob": between(0, 1),
    "augment.erase_area": ordered(between(0, 1, open_low=True)),
    "augment.erase_aspect": ordered(between(0, open_low=True)),
    "augment.erase_mode": names("zeros", "noise"),
    "augment.mixup": between(0),
    "augment.cutmix": between(0),
    "augment.crop_area": ordered(between(0, 1)),
    "augment.crop_interpolation": FILTERS,
    "augment.color_jitter": tuple_of(4, between(0)),
    "augment.rand_augment": tuple_of(2, between(0, 10)),
    "classification.label_smoothing": between(0, 1, open_high=True),
    "train.max_steps": whole(0),
    "train.log_every": whole(1),
    "train.shard_params": switch,
    "train.max_consecutive_skips": whole(1),
    "optim.batch_size": whole(1),
    "optim.grad_accum_steps": whole(1),
    "optim.peak_lr": between(0),
    "optim.weight_decay": between(0),
    "optim.no_weight_decay": names("none", "norm", "norm_and_bias"),
    "optim.epochs": between(5.0),
    "optim.warmup_epochs": between(0, 100),
    "optim.warmup_lr": between(0),
    "optim.min_lr": between(0),
    "optim.cooldown_epochs": between(0),
    "optim.decay": names("cosine", "poly", "steps"),
    "optim.decay_epochs": several(between(0, open_low=True), least=0),
    "optim.decay_factor": between(0, 1, open_low=True),
    "optim.poly_power": between(0, open_low=True),
    "optim.lr_update": names("epoch", "step"),
    "optim.clip_norm": between(0),
    "optim.ema_decay": between(0, 1, open_high=True),
    "optim.freeze_backbone": switch,
    "optim.head_lr_scale": between(0, open_low=True),
    "optim.max_loss": between(0, open_low=True),
    "eval.every": between(0, open_low=True),
    "eval.batch_size": whole(1),
    "eval.resize": lambda v: whole(0)(v) and (v == 0 or v >= 32),
    "eval.interpolation": FILTERS,
    "checkpoint.every": between(0, open_low=True),
    "checkpoint.keep_latest": whole(1),
    "checkpoint.keep_best": whole(0),
}  # fmt: skip

# What differs in other tasks.
SEGMENTATION = {
    "model.head": names("semantic_fpn", "upernet"),
    "model.semantic_fpn.neck_width": or_none(whole(1)),
    "model.semantic_fpn.width": or_none(whole(1)),
    "model.semantic_fpn.dropout": or_none(between(0, 1, open_high=True)),
    "data.cache": lambda v: v is False,
    "augment.scale": tuple_of(2, whole(1)),
    "augment.scale_ratio": ordered(between(0, open_low=True)),
    "augment.max_class_fraction": between(0, 1, open_low=True),
    "augment.flip_prob": between(0, 1),
    "augment.photometric": switch,
    "segmentation.denominator": names("labeled", "all"),
    "segmentation.class_weights": several(between(0, open_low=True), least=0),
    "segmentation.auxiliary_weight": between(0),
    "segmentation.eval_scale": tuple_of(2, whole(1)),
    "segmentation.eval_multiple": whole(1),
    "segmentation.eval_ratios": several(between(0, open_low=True)),
    "segmentation.eval_flip": switch,
    "segmentation.slide_crop": lambda v: v == 0 and whole(0)(v),
    "segmentation.slide_stride": lambda v: v == 0 and whole(0)(v),
}
DETECTION = {
    "model.head": names("mask_rcnn", "retinanet"),
    **{f"model.mask_rcnn.{name}": or_none(takes) for name, takes in MASK_RCNN.items()},
    "data.cache": lambda v: v is False,
    "augment.long_side": whole(800),
    "augment.short_sides": lambda v: several(whole(1))(v) and max(v) <= 1333,
    "augment.flip_prob": between(0, 1),
    "augment.crop_prob": between(0, 1),
    "augment.crop_short_sides": several(whole(1)),
    "augment.crop_sides": tuple_of(2, whole(1)),
    "detection.num_slots": whole(1),
    "detection.eval_scale": tuple_of(2, whole(1)),
    "detection.canvas_steps": whole(1),
}
POSE = {
    "model.head": names("heatmap_deconv", "heatmap_fpn", "heatmap_mta"),
    "model.heatmap_fpn.width": or_none(whole(1)),
    "data.cache": lambda v: v is False,
    "augment.shift": between(0),
    "augment.shift_prob": between(0, 1),
    "augment.flip_prob": between(0, 1),
    "augment.half_body_prob": between(0, 1),
    "augment.half_body_points": whole(1),
    "augment.scale": between(0, 1, open_high=True),
    "augment.rotation": between(0, 90),
    "augment.rotation_prob": between(0, 1),
    "eval.boxes": text,
    # The last level of the default backbone has a stride of 16.
    "pose.crop_size": tuple_of(2, lambda v: whole(1)(v) and v % 16 == 0),
    "pose.padding": between(1),
    "pose.sigma": between(0, open_low=True),
    "pose.eval_flip": switch,
    "pose.quarter_shift": names("apart", "together"),
    "pose.least_score": between(0, 1, open_high=True),
    "pose.max_similarity": between(0, 1, open_low=True),
}
TABLES = {
    "classification": TAKES,
    "segmentation": {
        **{k: v for k, v in TAKES.items() if k.split(".")[0] not in ("augment", "classification")},
        **SEGMENTATION,
    },
    "detection": {
        **{k: v for k, v in TAKES.items() if k.split(".")[0] not in ("augment", "classification")},
        **DETECTION,
    },
    "pose": {
        **{k: v for k, v in TAKES.items() if k.split(".")[0] not in ("augment", "classification")},
        **POSE,
    },
}
# Settings that several tasks have are tried on one.
TRIED = [("classification", key) for key in TAKES]
TRIED += [("segmentation", key) for key in SEGMENTATION]
TRIED += [("detection", key) for key in DETECTION]
TRIED += [("pose", key) for key in POSE]


@pytest.mark.parametrize("task", TABLES)
def test_the_table_has_every_setting(task):
    assert sorted(flat_keys(default_config(task))) == sorted(TABLES[task])


@pytest.mark.parametrize(("task", "key"), TRIED)
def test_what_cannot_be_meant_is_refused_by_its_name(task, key):
    takes = TABLES[task][key]
    for value in NASTY:
        config = default_config(task)
        section = config
        *sections, name = key.split(".")
        for part in sections:
            section = section[part]
        try:
            section[name] = value
        except TypeError:
            assert not takes(value), f"{key} does not take {value!r}"
            continue
        if takes(section[name]):
            check_config(config, device_count=1)
            continue
        with pytest.raises(UserError) as error:
            check_config(config, device_count=1)
        message = str(error.value)
        assert message.startswith(f"config.{sections[0] if sections else key}"), message
        assert re.search(rf"\b{name}\b", message), message


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.backbone", "cluenet_tiney", "Did you mean 'cluenet_tiny'"),
        ("model.cluenet.pooling", "max", "icp, fec, shared"),
        ("model.head", "semantic_fpn", "classification takes linear"),
        ("model.clustr.num_neighbors", 3, "the backbone is cluenet_nano"),
        ("model.cluenet.dims", (8, 8, 8), "takes None or 4 values"),
        ("seed", -1, "at least 0"),
        ("data.name", "cifar", "takes one of digits, cifar10"),
        ("eval.interpolation", "sinc", "nearest, bilinear, bicubic, lanczos"),
        ("augment.erase_mode", "gray", "zeros, noise"),
        ("augment.rand_augment", (), "takes 2 values"),
        ("augment.crop_padding", -1, "at least 0"),
        ("optim.batch_size", 129, "multiple of the 8 devices, for example 128"),
        ("eval.batch_size", 4, "multiple of the 8 devices, for example 8"),
        ("optim.warmup_epochs", 1e6, "at most optim.epochs=100"),
        ("optim.grad_accum_steps", 3, "must divide into that many parts"),
        ("optim.lr_update", "hour", "one of epoch, step"),
        ("train.log_every", 0, "at least 1"),
        ("eval.resize", 16, "at least data.image_size=32"),
    ],
)
def test_a_config_that_cannot_run_is_refused(key, value, message):
    config = default_config()
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=message) as error:
        check_config(config, device_count=8)
    assert f"config.{key.split('.')[0]}" in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("crop_area", (0.2, 1.0)),
        ("color_jitter", (0.0, 0.0, 0.0, 0.1)),
        ("rand_augment", (9.0, 0.0)),
    ],
)
def test_what_is_augmented_on_the_host_cannot_be_cached(name, value):
    config = default_config()
    config.data.cache = True
    check_config(config, 1)
    config.augment[name] = value
    with pytest.raises(UserError, match=f"cache=True: augment.{name} change"):
        check_config(config, 1)


def test_a_cache_is_in_one_process():
    config = default_config()
    config.data.update(dict(cache=True, num_workers=2))
    with pytest.raises(UserError, match="num_workers=2 must be 0"):
        check_config(config, 1)


def test_a_configuration_survives_its_json():
    config = default_config()
    config.model.cluenet.dims = (8, 8, 16, 16)
    values = config.to_dict()
    values["model"]["cluenet"]["dims"] = [8, 8, 16, 16]
    config.model.coc.folds = ((8, 8), (4, 4), (2, 2), (1, 1))
    values["model"]["coc"]["folds"] = [[8, 8], [4, 4], [2, 2], [1, 1]]
    values["optim"]["of_another_version"] = 3
    del values["eval"]["every"]
    assert config_from_dict(values) == config
