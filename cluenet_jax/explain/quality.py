"""Whether the maps are right: deletion and insertion curves, Grad-CAM, agreement with masks."""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cluenet_jax.explain.importance import blur, importance, mean_fill
from cluenet_jax.explain.maps import decision_regions, look

BASELINES = {"mean": mean_fill, "blur": blur}
# The first is judged against the others.
METHODS = {
    "decision": "decision regions, by importance",
    "random_order": "the same regions, in random order",
    "random_regions": "random blobs of the same sizes, by importance",
    "grid": "a grid of rectangles, by importance",
    "grad_cam": "Grad-CAM of the last stage, cut at the same sizes",
}
_CURVES = [(curve, baseline) for curve in ("deletion", "insertion") for baseline in BASELINES]
# Standard errors on either side of a mean: 95 %.
_INTERVAL = 1.96


def deletion_insertion(
    model: nn.Module,
    variables: dict,
    images: jax.Array,
    ranks: jax.Array,
    classes: jax.Array,
    num_ranks: int,
    baseline: str = "mean",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The class's probability while pixels are taken away, and while they are put back.

    Args:
      images: `[B, H, W, 3]` normalised.
      ranks: `[B, H, W]` integers in 0 .. K-1; the pixels of rank 0 go first.
      classes: `[B]` integers, the class y.
      num_ranks: K.
      baseline: What stands where pixels are missing: "mean", the image's mean colour, or
        "blur", the blurred image.

    Returns:
      `fraction`, `deletion` and `insertion`, float32 `[B, K+1]` each: the share of pixels
      taken (or put) after each rank, and p(y). Good ranks make deletion fall
      and insertion rise early.
    """
    curves = _curves(model, num_ranks, baseline, variables, images, ranks, classes)
    return tuple(np.asarray(curve) for curve in curves)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _curves(model, num_ranks, baseline, variables, images, ranks, classes):
    steps = jnp.arange(num_ranks + 1, dtype=ranks.dtype)[:, None, None, None]
    taken = ranks[None] < steps
    missing = BASELINES[baseline](images)
    variants = jnp.concatenate(
        [
            jnp.where(taken[..., None], missing, images),
            jnp.where(taken[..., None], images, missing),
        ]
    )
    logits = model.apply(variables, variants.reshape(-1, *images.shape[1:]))
    probabilities = jax.nn.softmax(logits).reshape(*variants.shape[:2], -1)
    chosen = jnp.take_along_axis(probabilities, classes[None, :, None], axis=2)[..., 0]
    deletion, insertion = jnp.split(chosen, 2)
    return taken.mean(axis=(2, 3)).T, deletion.T, insertion.T


def area(fraction: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """Area under curves `[B, K+1]` by the trapezoid rule: `[B]` in 0 .. 1."""
    return np.trapezoid(curve, fraction, axis=1)


@functools.partial(jax.jit, static_argnums=0)
def grad_cam(model: nn.Module, variables: dict, images: jax.Array, classes: jax.Array) -> jax.Array:
    """Grad-CAM of the last stage: float32 `[B, H, W]`, 0 or above.

    Source: R. Selvaraju et al., Grad-CAM, 2017, equations 1 and 2; enlarged bilinearly.
    """
    _, maps = model.apply(variables, images, return_maps=True)
    features = maps["stage4/features"].astype(jnp.float32)

    def logit(features: jax.Array) -> jax.Array:
        logits = head_logits(variables["params"], features)
        return jnp.take_along_axis(logits, classes[:, None], axis=1).sum()

    weights = jax.grad(logit)(features).mean(axis=(1, 2), keepdims=True)
    cam = jax.nn.relu((weights * features).sum(axis=-1))
    return jax.image.resize(cam, images.shape[:3], "bilinear")


def head_logits(params: dict, features: jax.Array) -> jax.Array:
    """Logits `[B, num_classes]` of `stage4/features` `[B, H, W, C]`: what follows the last stage.

    CLUENet has a norm there; ClusTR's features have passed theirs.
    """
    if "norm" in params:
        norm = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False)
        features = norm.apply({"params": params["norm"]}, features)
    return features.mean(axis=(1, 2)) @ params["head"]["kernel"] + params["head"]["bias"]


@dataclasses.dataclass(frozen=True)
class MapScores:
    """Areas under the curves of many images.

    Attributes:
      num_regions: K.
      areas: For each method of `METHODS`, curve and baseline, such as
        `("grid", "deletion", "mean")`, float `[N]`.
    """

    num_regions: int
    areas: dict[tuple[str, str, str], np.ndarray]

    @property
    def count(self) -> int:
        """Images, N."""
        return len(next(iter(self.areas.values())))

    def to_json(self) -> dict[str, Any]:
        """Means with 95 % intervals, and how far the first method is ahead, image by image."""
        methods = {}
        for method in METHODS:
            rows = {}
            for curve, baseline in _CURVES:
                own = self.areas[method, curve, baseline]
                first = self.areas["decision", curve, baseline]
                # Less is better for deletion: turned so that more is always better.
                ahead = (first - own) * (-1 if curve == "deletion" else 1)
                mean, interval = _mean(own)
                lead, lead_interval = _mean(ahead)
                rows[f"{curve}_{baseline}"] = dict(
                    mean=mean, interval=interval, lead=lead, lead_interval=lead_interval
                )
            methods[method] = rows
        return {"images": self.count, "regions": self.num_regions, "methods": methods}

    def to_text(self) -> str:
        """A table: deletion (less is better) and insertion (more is better)."""
        about = self.to_json()["methods"]
        heads = [f"{curve} {arrow}, {base}" for curve, base in _CURVES
                 for arrow in ("↓" if curve == "deletion" else "↑",)]  # fmt: skip
        width = max(map(len, METHODS.values()))
        lines = [f"{'':{width}} " + " ".join(f"{head:>17}" for head in heads)]
        for method, words in METHODS.items():
            cells = []
            for curve, base in _CURVES:
                cell = about[method][f"{curve}_{base}"]
                cells.append(f"{cell['mean']:.4f} ± {cell['interval']:.4f}".rjust(17))
            lines.append(f"{words:{width}} " + " ".join(cells))
        lines.append(
            f"Areas under the curves, means of {self.count} images with 95 % intervals; "
            f"up to {self.num_regions} regions; what replaces pixels stands after the comma."
        )
        return "\n".join(lines)


def evaluate_maps(
    model: nn.Module,
    variables: dict,
    batches: Iterable[np.ndarray],
    num_regions: int = 4,
    seed: int = 0,
) -> MapScores:
    """Deletion and insertion of the decision regions against four rivals, for the predicted class.

    All rivals take and put back the same shares of pixels, but the grid, which has K
    equal rectangles. Random order is what importance must beat; random regions and the
    grid, which are put in order by the same importance, are what the regions' shapes
    must beat.

    Args:
      batches: Of normalised images `[B, H, W, 3]`; the last may be smaller.
      num_regions: K of the decision map.
      seed: Of the random orders and regions.
    """
    rng = np.random.default_rng(seed)
    parts: list[dict] = []
    for images in batches:
        images = jnp.asarray(images)
        seen = look(model, variables, images)
        classes = jnp.argmax(seen.logits, axis=-1)
        ranks = _all_ranks(model, variables, images, seen, classes, num_regions, rng)
        scores = {}
        for method, rank in ranks.items():
            for baseline in BASELINES:
                fraction, deletion, insertion = deletion_insertion(
                    model, variables, images, rank, classes, num_regions, baseline
                )
                scores[method, "deletion", baseline] = area(fraction, deletion)
                scores[method, "insertion", baseline] = area(fraction, insertion)
        parts.append(scores)
    if not parts:
        raise ValueError("There are no images to evaluate.")
    areas = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return MapScores(num_regions, areas)


def _all_ranks(model, variables, images, seen, classes, count, rng) -> dict[str, np.ndarray]:
    """For every method int32 `[B, H, W]`, the rank at which a pixel is taken."""
    height, width = images.shape[1:3]

    def by_importance(regions: np.ndarray) -> np.ndarray:
        scores = importance(model, variables, images, regions, classes, count).score
        return _ranks(regions, np.asarray(scores))

    regions = decision_regions(seen, count)
    ours = by_importance(regions)
    sizes = _sizes(regions, count)
    blobs = np.stack([_cut(_smooth_noise(height, width, rng), size) for size in sizes])
    cam = np.asarray(grad_cam(model, variables, images, classes))
    return {
        "decision": ours,
        "random_order": _ranks(regions, rng.random((len(images), count))),
        "random_regions": by_importance(blobs),
        "grid": by_importance(np.broadcast_to(_grid(height, width, count), regions.shape)),
        "grad_cam": np.stack(
            [_cut(-c, size) for c, size in zip(cam, _sizes(ours, count), strict=True)]
        ),
    }


def _ranks(regions: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """`[B, H, W]` regions and `[B, K]` scores to ranks: the best region's pixels have 0."""
    places = np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1)
    flat = np.take_along_axis(places, regions.reshape(len(regions), -1), axis=1)
    return flat.reshape(regions.shape).astype(np.int32)


def _sizes(regions: np.ndarray, count: int) -> np.ndarray:
    """int `[B, K]`, pixels of each region."""
    return np.stack([np.bincount(r.reshape(-1), minlength=count) for r in regions])


def _cut(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Numbers the pixels of `[H, W]`, the lowest first, in runs of the given sizes."""
    order = np.argsort(values, axis=None, kind="stable")
    numbers = np.empty(values.size, np.int32)
    numbers[order] = np.repeat(np.arange(len(sizes)), sizes)
    return numbers.reshape(values.shape)


def _smooth_noise(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """`[H, W]` noise whose level sets are blobs, of about an eighth of the side."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(rng.random((height, width)), max(height, width) / 8)


def _grid(height: int, width: int, count: int) -> np.ndarray:
    """int32 `[H, W]`, `count` rectangles as square as its divisors allow."""
    rows = max(n for n in range(1, int(count**0.5) + 1) if count % n == 0)
    columns = count // rows
    y, x = np.arange(height) * rows // height, np.arange(width) * columns // width
    return (y[:, None] * columns + x).astype(np.int32)


def _mean(values: np.ndarray) -> tuple[float, float]:
    """The mean and half the width of its 95 % interval."""
    error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return float(values.mean()), float(_INTERVAL * error)


def mask_agreement(regions: np.ndarray, masks: np.ndarray) -> dict[str, np.ndarray]:
    """How well regions agree with segmentation masks, image by image.

    Args:
      regions: `[B, H, W]` integers, any partition.
      masks: `[B, H, W]` integers, the true segments; negative: not counted.

    Returns:
      float `[B]` each: `miou`, the mean over the true segments of the intersection over union
      with their region, under the best one-to-one matching (a segment without one counts 0);
      `nmi` and `ari`, normalised mutual information and the adjusted Rand index. NaN
      for an image without any counted pixel.

    Raises:
      ValueError: The shapes differ.
    """
    regions, masks = np.asarray(regions), np.asarray(masks)
    if regions.shape != masks.shape:
        raise ValueError(f"regions have shape {regions.shape}, masks {masks.shape}.")
    rows = [_agreement(r[m >= 0], m[m >= 0]) for r, m in zip(regions, masks, strict=True)]
    return {name: np.array([row[name] for row in rows]) for name in ("miou", "nmi", "ari")}


def _agreement(regions: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix

    if not mask.size:
        return dict(miou=np.nan, nmi=np.nan, ari=np.nan)
    both = contingency_matrix(mask, regions)
    union = both.sum(axis=1, keepdims=True) + both.sum(axis=0, keepdims=True) - both
    overlap = both / union
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    return dict(
        miou=overlap[rows, columns].sum() / len(both),
        nmi=normalized_mutual_info_score(mask, regions),
        ari=adjusted_rand_score(mask, regions),
    )
