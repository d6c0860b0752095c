"""Faithfulness of decision maps: deletion and insertion curves against four rivals, Grad-CAM."""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cluenet_jax.explain.importance import (
    BestTargetsFn,
    ScoreFn,
    blur,
    importance,
    mean_fill,
    score_variants,
)
from cluenet_jax.explain.maps import compute_maps, decision_regions

BASELINES = {"mean": mean_fill, "blur": blur}
# The first is judged against the others.
METHODS = {
    "decision": "decision regions, by importance",
    "random_order": "the same regions, in random order",
    "random_regions": "random blobs of the same sizes, by importance",
    "grid": "a grid of rectangles, by importance",
    "grad_cam": "Grad-CAM of the last stage, split at the same sizes",
}
_CURVES = [(curve, baseline) for curve in ("deletion", "insertion") for baseline in BASELINES]
# Standard errors on either side of a mean: 95 %.
_INTERVAL = 1.96


def deletion_insertion(
    score: ScoreFn,
    variables: dict,
    images: jax.Array,
    ranks: jax.Array,
    targets: jax.Array,
    num_ranks: int,
    baseline: str = "mean",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The target's score while pixels are taken away, and while they are put back.

    Args:
      score: The model's score, such as `class_probability(model)`.
      variables: The model's variables.
      images: `[B, H, W, 3]`, normalized.
      ranks: `[B, H, W]` integers in 0 .. K-1; the pixels of rank 0 go first.
      targets: `[B]` integers, the target y.
      num_ranks: K.
      baseline: What replaces missing pixels: "mean", the image's mean color, or "blur", the
        blurred image.

    Returns:
      `fraction`, `deletion` and `insertion`, float32 `[B, K+1]` each: the fraction of pixels
      taken (or put) after each rank, and p(y). Good ranks make deletion fall
      and insertion rise early.
    """
    curves = _curves(score, num_ranks, baseline, variables, images, ranks, targets)
    return tuple(np.asarray(curve) for curve in curves)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _curves(score, num_ranks, baseline, variables, images, ranks, targets):
    steps = jnp.arange(num_ranks + 1, dtype=ranks.dtype)[:, None, None, None]
    taken = ranks[None] < steps
    missing = BASELINES[baseline](images)
    variants = jnp.concatenate(
        [
            jnp.where(taken[..., None], missing, images),
            jnp.where(taken[..., None], images, missing),
        ]
    )
    scores = score_variants(score, variables, variants, targets)
    deletion, insertion = jnp.split(scores, 2)
    return taken.mean(axis=(2, 3)).T, deletion.T, insertion.T


def area(fraction: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """Area under curves `[B, K+1]` by the trapezoid rule: `[B]` in 0 .. 1."""
    return np.trapezoid(curve, fraction, axis=1)


@functools.partial(jax.jit, static_argnums=0)
def grad_cam(model: nn.Module, variables: dict, images: jax.Array, targets: jax.Array) -> jax.Array:
    """Grad-CAM of the last stage: float32 `[B, H, W]`, 0 or above.

    Source: R. Selvaraju et al., Grad-CAM, 2017, equations 1 and 2; enlarged bilinearly.
    """
    *finer, last = model.apply(variables, images, method="features").levels
    last = last.astype(jnp.float32)

    def logit(level: jax.Array) -> jax.Array:
        logits = model.apply(variables, (*finer, level), method="decode")
        return jnp.take_along_axis(logits, targets[:, None], axis=1).sum()

    weights = jax.grad(logit)(last).mean(axis=(1, 2), keepdims=True)
    cam = jax.nn.relu((weights * last).sum(axis=-1))
    return jax.image.resize(cam, images.shape[:3], "bilinear")


def has_logits(model: nn.Module, variables: dict, images: jax.Array) -> bool:
    """Whether the head's output is logits `[B, N]`, as Grad-CAM needs it."""
    output = jax.eval_shape(model.apply, variables, images)
    return isinstance(output, jax.ShapeDtypeStruct) and output.ndim == 2


@dataclasses.dataclass(frozen=True)
class Faithfulness:
    """Areas under the curves of many images.

    Attributes:
      num_regions: K.
      areas: For each method of `METHODS` (Grad-CAM only where the head gives logits), curve
        and baseline, such as `("grid", "deletion", "mean")`, float `[N]`.
    """

    num_regions: int
    areas: dict[tuple[str, str, str], np.ndarray]

    @property
    def num_images(self) -> int:
        """Images, N."""
        return len(next(iter(self.areas.values())))

    @property
    def methods(self) -> dict[str, str]:
        """The part of `METHODS` that was measured."""
        measured = {method for method, _, _ in self.areas}
        return {method: title for method, title in METHODS.items() if method in measured}

    def to_json(self) -> dict[str, Any]:
        """Means with 95 % intervals, and how far the first method is ahead, image by image."""
        methods = {}
        for method in self.methods:
            rows = {}
            for curve, baseline in _CURVES:
                own = self.areas[method, curve, baseline]
                first = self.areas["decision", curve, baseline]
                # Less is better for deletion: the sign makes more always better.
                ahead = (first - own) * (-1 if curve == "deletion" else 1)
                mean, interval = _mean(own)
                lead, lead_interval = _mean(ahead)
                rows[f"{curve}_{baseline}"] = dict(
                    mean=mean, interval=interval, lead=lead, lead_interval=lead_interval
                )
            methods[method] = rows
        return {"images": self.num_images, "regions": self.num_regions, "methods": methods}

    def to_text(self) -> str:
        """A table: deletion (less is better) and insertion (more is better)."""
        numbers = self.to_json()["methods"]
        arrows = {"deletion": "↓", "insertion": "↑"}
        heads = [f"{curve} {arrows[curve]}, {baseline}" for curve, baseline in _CURVES]
        width = max(map(len, self.methods.values()))
        lines = [f"{'':{width}} " + " ".join(f"{head:>17}" for head in heads)]
        for method, title in self.methods.items():
            cells = []
            for curve, baseline in _CURVES:
                cell = numbers[method][f"{curve}_{baseline}"]
                cells.append(f"{cell['mean']:.4f} ± {cell['interval']:.4f}".rjust(17))
            lines.append(f"{title:{width}} " + " ".join(cells))
        lines.append(
            f"Areas under the curves, means of {self.num_images} images with 95 % intervals; "
            f"up to {self.num_regions} regions; what replaces pixels is after the comma."
        )
        return "\n".join(lines)


def evaluate_explanations(
    model: nn.Module,
    score: ScoreFn,
    best_targets: BestTargetsFn,
    variables: dict,
    batches: Iterable[np.ndarray],
    num_regions: int = 4,
    seed: int = 0,
) -> Faithfulness:
    """Deletion and insertion of the decision regions against four rivals, for the best target.

    All rivals take and put back the same fractions of pixels, but the grid, which has K
    equal rectangles. Random order is what importance must beat; random regions and the
    grid, which are put in order by the same importance, are what the regions' shapes
    must beat. Grad-CAM takes part where the head gives logits.

    Args:
      model, variables: A model with a head.
      score, best_targets: The model's, such as `class_probability(model)` and
        `predicted_class(model)`.
      batches: Of normalized images `[B, H, W, 3]`; the last may be smaller.
      num_regions: K of the decision map.
      seed: Of the random orders and regions.

    Raises:
      ValueError: There are no images.
    """
    rng = np.random.default_rng(seed)
    parts: list[dict] = []
    for images in batches:
        images = jnp.asarray(images)
        targets = _best_targets(best_targets, variables, images)
        ranks = _all_ranks(model, score, variables, images, targets, num_regions, rng)
        areas = {}
        for method, rank in ranks.items():
            for baseline in BASELINES:
                fraction, deletion, insertion = deletion_insertion(
                    score, variables, images, rank, targets, num_regions, baseline
                )
                areas[method, "deletion", baseline] = area(fraction, deletion)
                areas[method, "insertion", baseline] = area(fraction, insertion)
        parts.append(areas)
    if not parts:
        raise ValueError("There are no images to evaluate.")
    areas = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return Faithfulness(num_regions, areas)


@functools.partial(jax.jit, static_argnums=0)
def _best_targets(best_targets: BestTargetsFn, variables: dict, images: jax.Array) -> jax.Array:
    return best_targets(variables, images)


def _all_ranks(
    model, score, variables, images, targets, count, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """For every method int32 `[B, H, W]`, the rank at which a pixel is taken."""
    height, width = images.shape[1:3]

    def by_importance(regions: np.ndarray) -> np.ndarray:
        result = importance(score, variables, images, regions, targets, count)
        return rank_pixels(regions, np.asarray(result.score))

    regions = decision_regions(compute_maps(model, variables, images), count)
    ours = by_importance(regions)
    sizes = _sizes(regions, count)
    blobs = np.stack([split_by_value(smooth_noise(height, width, rng), size) for size in sizes])
    ranks = {
        "decision": ours,
        "random_order": rank_pixels(regions, rng.random((len(images), count))),
        "random_regions": by_importance(blobs),
        "grid": by_importance(np.broadcast_to(rectangles(height, width, count), regions.shape)),
    }
    if has_logits(model, variables, images):
        cam = np.asarray(grad_cam(model, variables, images, targets))
        ranks["grad_cam"] = np.stack(
            [split_by_value(-c, size) for c, size in zip(cam, _sizes(ours, count), strict=True)]
        )
    return ranks


def rank_pixels(regions: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """`[B, H, W]` regions and `[B, K]` scores to ranks: the best region's pixels have 0."""
    order = np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1)
    flat = np.take_along_axis(order, regions.reshape(len(regions), -1), axis=1)
    return flat.reshape(regions.shape).astype(np.int32)


def split_by_value(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Numbers the pixels of `[H, W]`, the lowest first, in runs of the given sizes."""
    order = np.argsort(values, axis=None, kind="stable")
    numbers = np.empty(values.size, np.int32)
    numbers[order] = np.repeat(np.arange(len(sizes)), sizes)
    return numbers.reshape(values.shape)


def smooth_noise(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """`[H, W]` noise whose level sets are blobs, of about an eighth of the side."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(rng.random((height, width)), max(height, width) / 8)


def rectangles(height: int, width: int, count: int) -> np.ndarray:
    """int32 `[H, W]`, `count` rectangles as square as its divisors allow."""
    rows = max(n for n in range(1, int(count**0.5) + 1) if count % n == 0)
    columns = count // rows
    y, x = np.arange(height) * rows // height, np.arange(width) * columns // width
    return (y[:, None] * columns + x).astype(np.int32)


def _sizes(regions: np.ndarray, count: int) -> np.ndarray:
    """int `[B, K]`, pixels of each region."""
    return np.stack([np.bincount(r.reshape(-1), minlength=count) for r in regions])


def _mean(values: np.ndarray) -> tuple[float, float]:
    """The mean and half the width of its 95 % interval."""
    error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return float(values.mean()), float(_INTERVAL * error)
