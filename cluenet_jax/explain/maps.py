"""What a network looked at, as arrays: clusters, receptive fields, gates, decision regions.

Every map is a partition: it gives each pixel exactly one number. All functions
take a batch of normalised images `[B, H, W, 3]` of any size and work for both
families; `variables` is `{"params": ...}`. Source: CLUENet, sections on
interpretability; ClusTR, section 3.
"""

import functools

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cluenet_jax.models.cluenet import CLUENet
from cluenet_jax.models.clustr import ClusTR


@flax.struct.dataclass
class Look:
    """One forward pass and all that it looked at.

    Attributes:
      logits: `[B, num_classes]` float32, or what a backbone returns.
      clusters: For each stage int32 `[B, G, H_s, W_s]`, see `cluster_maps`.
      fields: For each stage int32 `[B, H, W]`, see `receptive_fields`.
      gates: For each stage float32 `[B, G, H_s, W_s]`, see `gate_map`; empty for
        networks without gates.
      features: `[B, H_4, W_4, C]` of the last stage.
    """

    logits: jax.Array
    clusters: list[jax.Array]
    fields: list[jax.Array]
    gates: list[jax.Array]
    features: jax.Array


@functools.partial(jax.jit, static_argnums=0)
def look(model: CLUENet | ClusTR, variables: dict, images: jax.Array) -> Look:
    """Runs the network once and returns every map of it; compiled for each shape."""
    logits, maps = model.apply(variables, images, return_maps=True)
    stages = range(1, 5)
    ours = isinstance(model, CLUENet)
    clusters = [(_clusters if ours else _token_clusters)(maps, stage) for stage in stages]
    fields = (_chained_fields if ours else _strided_fields)(model, maps, images.shape)
    gates = []
    if ours and model.gate:
        gates = [_pixel_gates(maps[f"stage{s}/gate"], clusters[s - 1]) for s in stages]
    return Look(logits, clusters, fields, gates, maps["stage4/features"])


def cluster_maps(model: nn.Module, variables: dict, images: jax.Array) -> list[jax.Array]:
    """The cluster of every pixel, at the four stages.

    Returns:
      For each stage int32 `[B, G, H_s, W_s]`: for CLUENet one map per head, the
      number of the centre (row-major in the grid of centres) that the stage's shared
      assignment chose. For ClusTR one map per scale, of the stage's last block, the
      strongest cluster first; where it does not cluster (stage 4) each token stands
      for itself.
    """
    return look(model, variables, images).clusters


def receptive_fields(model: nn.Module, variables: dict, images: jax.Array) -> list[jax.Array]:
    """Which pixel of each stage owns which pixels of the image.

    A pixel of stage s+1 owns what the pixels of stage s own that joined it in the
    cluster pooling, so its region has a free shape and need not be connected; one
    that nobody joined owns nothing. Image pixels beyond the last whole patch belong
    to the nearest one. ClusTR halves its grid by strided convolutions: there a token
    owns the square around it.

    Returns:
      For each stage int32 `[B, H, W]`, the row-major number of the owner, in
      0 .. H_s W_s - 1.
    """
    return look(model, variables, images).fields


def gate_map(model: nn.Module, variables: dict, images: jax.Array) -> list[jax.Array]:
    """How much each pixel's centre took from its neighbourhood instead of the whole image.

    Returns:
      For each stage float32 `[B, G, H_s, W_s]` in 0 .. 1: the gate of the centre that the
      pixel belongs to, in the stage's first block. (The gates of all blocks by centre are
      in `model.apply(..., return_maps=True)`.)

    Raises:
      ValueError: The network has no gates.
    """
    gates = look(model, variables, images).gates
    if not gates:
        raise ValueError(f"This {type(model).__name__} has no gated fusion.")
    return gates


def decision_map(
    model: nn.Module, variables: dict, images: jax.Array, num_regions: int = 5
) -> np.ndarray:
    """The image cut into the few regions that the decision is made of.

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
    seen = look(model, variables, images)
    return decision_regions(seen, num_regions)


def decision_regions(seen: Look, num_regions: int) -> np.ndarray:
    """As `decision_map`, of a pass that was made already."""
    if num_regions < 1:
        raise ValueError(f"num_regions={num_regions} must be at least 1.")
    fields, features = np.asarray(seen.fields[-1]), np.asarray(seen.features, np.float32)
    features = features.reshape(len(features), -1, features.shape[-1])
    return np.stack([_group(f, x, num_regions) for f, x in zip(fields, features, strict=True)])


def in_image(fields: jax.Array, clusters: jax.Array) -> np.ndarray:
    """A map of a stage in the image: each image pixel gets the value of its owner.

    Args:
      fields: `[B, H, W]`, of `receptive_fields`.
      clusters: `[B, G, H_s, W_s]`, of the same stage.

    Returns:
      `[B, G, H, W]` of the type of `clusters`.
    """
    fields, clusters = np.asarray(fields), np.asarray(clusters)
    batch, height, width = fields.shape
    flat = clusters.reshape(*clusters.shape[:2], -1)
    owners = np.broadcast_to(fields.reshape(batch, 1, -1), (*flat.shape[:2], height * width))
    return np.take_along_axis(flat, owners, axis=2).reshape(*flat.shape[:2], height, width)


def _group(field: np.ndarray, features: np.ndarray, num_regions: int) -> np.ndarray:
    """`[H, W]` owners and `[N, C]` features to `[H, W]` regions."""
    from sklearn.cluster import KMeans  # Slow to import.

    owners, pixels = np.unique(field, return_inverse=True)
    points = features[owners]
    wanted = min(num_regions, len(np.unique(points, axis=0)))
    groups = KMeans(wanted, n_init=4, random_state=0).fit_predict(points)
    region = groups[pixels.reshape(-1)]
    order = np.argsort(-np.bincount(region, minlength=wanted), kind="stable")
    return np.argsort(order)[region].reshape(field.shape).astype(np.int32)


def _clusters(maps: dict, stage: int) -> jax.Array:
    return maps[f"stage{stage}/assignment"]


def _token_clusters(maps: dict, stage: int) -> jax.Array:
    """ClusTR's: of the last block that clusters, or every token for itself."""
    blocks = sorted(
        (int(name.split("/block")[1].split("/")[0]), name)
        for name in maps
        if name.startswith(f"stage{stage}/block")
    )
    if blocks:
        return maps[blocks[-1][1]]
    batch, height, width, _ = maps[f"stage{stage}/features"].shape
    own = jnp.arange(height * width, dtype=jnp.int32).reshape(1, 1, height, width)
    return jnp.broadcast_to(own, (batch, 1, height, width))


def _nearest_cells(size: int, cells: int, window: int, stride: int, padding: int) -> np.ndarray:
    """For each of `size` pixels of an axis the window of a convolution whose middle is nearest."""
    middle = (np.arange(size) - (window - 1) / 2 + padding) / stride
    return np.clip(np.floor(middle + 0.5).astype(np.int32), 0, cells - 1)


def _patch_owners(size: tuple[int, int], cells: tuple[int, int], window: tuple) -> np.ndarray:
    """int32 `[H, W]`, the row-major number of the nearest window of a convolution."""
    rows, columns = (_nearest_cells(n, m, *window) for n, m in zip(size, cells, strict=True))
    return rows[:, None] * cells[1] + columns[None]


def _chained_fields(model: CLUENet, maps: dict, shape: tuple) -> list[jax.Array]:
    batch, height, width, _ = shape
    owners = _patch_owners((height, width), maps["stage1/features"].shape[1:3], model.patch)
    fields = [jnp.broadcast_to(jnp.asarray(owners), (batch, height, width))]
    for stage in (1, 2, 3):
        joined = maps[f"pool{stage}/assignment"].reshape(batch, -1)
        field = jnp.take_along_axis(joined, fields[-1].reshape(batch, -1), axis=1)
        fields.append(field.reshape(batch, height, width))
    return fields


def _strided_fields(model: ClusTR, maps: dict, shape: tuple) -> list[jax.Array]:
    size = tuple(shape[1:3])
    owners = np.arange(size[0] * size[1], dtype=np.int32).reshape(size)
    fields, grid = [], size
    for stage in range(1, 5):
        window, stride = model.patch if stage == 1 else (3, 2)
        cells = maps[f"stage{stage}/features"].shape[1:3]
        step = _patch_owners(grid, cells, (window, stride, window // 2))
        owners, grid = step.reshape(-1)[owners], cells
        fields.append(jnp.broadcast_to(jnp.asarray(owners), (shape[0], *size)))
    return fields


def _pixel_gates(gates: jax.Array, clusters: jax.Array) -> jax.Array:
    """`[B, depth, G, rows, columns]` and `[B, G, H, W]` to `[B, G, H, W]`."""
    first = gates[:, 0].reshape(*gates.shape[:1], gates.shape[2], -1)
    flat = clusters.reshape(*clusters.shape[:2], -1)
    return jnp.take_along_axis(first, flat, axis=2).reshape(clusters.shape).astype(jnp.float32)
