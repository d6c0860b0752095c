"""What a model looked at, as arrays: clusters, receptive fields, gates, decision regions.

Every map of clusters, fields or regions is a partition: it gives each pixel exactly one number.
All functions take a batch of normalized images `[B, H, W, 3]` of any size, and a model with any
backbone and any head, or a bare backbone. Source: CLUENet, sections on interpretability;
ClusTR, section 3.
"""

import functools

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cluenet_jax.models import Features


@flax.struct.dataclass
class ClusterMaps:
    """All maps of a batch of images.

    Attributes:
      clusters: For each stage int32 `[B, G, H_s, W_s]`, see `cluster_maps`.
      fields: For each stage int32 `[B, H, W]`, see `receptive_fields`.
      gates: For each stage float32 `[B, G, H_s, W_s]`, see `gate_map`, or None.
      features: `[B, H_S, W_S, C]`, the last level.
    """

    clusters: list[jax.Array]
    fields: list[jax.Array]
    gates: list[jax.Array | None]
    features: jax.Array


@functools.partial(jax.jit, static_argnums=0)
def compute_maps(model: nn.Module, variables: dict, images: jax.Array) -> ClusterMaps:
    """Runs the backbone once and returns every map of it; compiled for each shape."""
    # A bare backbone is called itself: it has no method of that name.
    method = getattr(type(model), "features", None)
    features: Features = model.apply(variables, images, method=method)
    return ClusterMaps(
        clusters=[stage.clusters for stage in features.maps],
        fields=_chained_fields(features),
        gates=[_pixel_gates(stage.gate, stage.clusters) for stage in features.maps],
        features=features.levels[-1],
    )


def cluster_maps(model: nn.Module, variables: dict, images: jax.Array) -> list[jax.Array]:
    """The cluster of every pixel, at the four stages.

    Returns:
      For each stage int32 `[B, G, H_s, W_s]`: for CLUENet one map per head, the number of the
      center (row-major in the grid of centers) that the stage's shared assignment chose. For
      ClusTR one map per scale, of the stage's last block, the strongest cluster first; where
      it does not cluster (stage 4) each token is a cluster of its own. For Context Cluster, FEC and
      ClusterFormer one map per head, of the stage's last block: the number of the center, row-major
      in its fold, after the centers of all folds before.
    """
    return compute_maps(model, variables, images).clusters


def receptive_fields(model: nn.Module, variables: dict, images: jax.Array) -> list[jax.Array]:
    """Which pixel of each stage owns which pixels of the image.

    A pixel of stage s+1 owns what the pixels of stage s own that joined it. In CLUENet and
    FEC they join by cluster pooling, so a region has a free shape and need not be connected; a
    pixel that nobody joined owns nothing. Image pixels beyond the last whole patch belong to the
    nearest one. ClusTR, Context Cluster and ClusterFormer halve their grids by strided
    convolutions: there a pixel of a stage owns the square around it.

    Returns:
      For each stage int32 `[B, H, W]`, the row-major number of the owner, in
      0 .. H_s W_s - 1.
    """
    return compute_maps(model, variables, images).fields


def gate_map(model: nn.Module, variables: dict, images: jax.Array) -> list[jax.Array | None]:
    """How much each pixel's center took from its neighborhood instead of the whole image.

    Returns:
      For each stage float32 `[B, G, H_s, W_s]` in 0 .. 1: the gate of the center that the
      pixel belongs to, in the stage's first block; None for a stage without gates. (The gates
      of all blocks by center are in `StageMaps.gate`.)

    Raises:
      ValueError: No stage has gates.
    """
    gates = compute_maps(model, variables, images).gates
    if all(gate is None for gate in gates):
        raise ValueError("No stage of this model has gated fusion.")
    return gates


def decision_map(
    model: nn.Module, variables: dict, images: jax.Array, num_regions: int = 5
) -> np.ndarray:
    """The few regions of the image that the decision is made of.

    k-means (scikit-learn's, with a fixed seed) groups the pixels of the last stage that own
    anything by their features; a region is what the pixels of a group own together.

    Args:
      num_regions: K. An image whose last stage has fewer pixels that own anything has
        fewer regions.

    Returns:
      int32 `[B, H, W]` in 0 .. K-1, the largest region first.

    Raises:
      ValueError: `num_regions` is below 1.
    """
    return decision_regions(compute_maps(model, variables, images), num_regions)


def decision_regions(maps: ClusterMaps, num_regions: int) -> np.ndarray:
    """As `decision_map`, of maps that are computed already."""
    if num_regions < 1:
        raise ValueError(f"num_regions={num_regions} must be at least 1.")
    fields, features = np.asarray(maps.fields[-1]), np.asarray(maps.features, np.float32)
    features = features.reshape(len(features), -1, features.shape[-1])
    return np.stack([_group(f, x, num_regions) for f, x in zip(fields, features, strict=True)])


def to_image_grid(fields: jax.Array, values: jax.Array) -> np.ndarray:
    """A map of a stage on the grid of the image: each image pixel gets the value of its owner.

    Args:
      fields: `[B, H, W]`, of `receptive_fields`.
      values: `[B, G, H_s, W_s]`, of the same stage, such as its clusters or gates.

    Returns:
      `[B, G, H, W]` of the type of `values`.
    """
    fields, values = np.asarray(fields), np.asarray(values)
    batch, height, width = fields.shape
    flat = values.reshape(*values.shape[:2], -1)
    owners = np.broadcast_to(fields.reshape(batch, 1, -1), (*flat.shape[:2], height * width))
    return np.take_along_axis(flat, owners, axis=2).reshape(*flat.shape[:2], height, width)


def _chained_fields(features: Features) -> list[jax.Array]:
    """From the owners of the image's pixels, stage by stage up the parents."""
    owners = features.pixel_owners
    batch = len(owners)
    fields = [owners]
    for stage in features.maps[:-1]:
        parents = stage.parents.reshape(batch, -1)
        owners = jnp.take_along_axis(parents, owners.reshape(batch, -1), axis=1)
        owners = owners.reshape(features.pixel_owners.shape)
        fields.append(owners)
    return fields


def _pixel_gates(gates: jax.Array | None, clusters: jax.Array) -> jax.Array | None:
    """`[B, depth, G, rows, columns]` and `[B, G, H, W]` to `[B, G, H, W]`."""
    if gates is None:
        return None
    first = gates[:, 0].reshape(gates.shape[0], gates.shape[2], -1)
    flat = clusters.reshape(*clusters.shape[:2], -1)
    return jnp.take_along_axis(first, flat, axis=2).reshape(clusters.shape).astype(jnp.float32)


def _group(field: np.ndarray, features: np.ndarray, num_regions: int) -> np.ndarray:
    """`[H, W]` owners and `[N, C]` features to `[H, W]` regions."""
    from sklearn.cluster import KMeans  # Slow to import.

    owners, pixels = np.unique(field, return_inverse=True)
    points = features[owners]
    num_groups = min(num_regions, len(np.unique(points, axis=0)))
    groups = KMeans(num_groups, n_init=4, random_state=0).fit_predict(points)
    region = groups[pixels.reshape(-1)]
    order = np.argsort(-np.bincount(region, minlength=num_groups), kind="stable")
    return np.argsort(order)[region].reshape(field.shape).astype(np.int32)
