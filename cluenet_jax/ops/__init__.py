"""Pure functions on arrays: clustering, pooling, resizing, GELU, boxes, heatmaps, pixel losses.

The modules here hold the plain form of each operation, close to the papers' equations;
`ops/cpu/` and `ops/tpu/` hold forms tuned for CPUs and TPUs, and `ops/platform.py` selects.
What this package exports runs the form for the backend at hand. Nothing here knows modules,
configs, files or random state, apart from an explicit key.

Letters in shapes, the same everywhere::

    B  images of a batch              G  attention heads
    H, W  rows and columns of a map   D  channels of one head
    N  points (pixels or tokens) of   C  channels
       an image, H*W in row-major     K  nearest neighbors of a point
       order                          S  cluster scales
    M  centers, or clusters

Of detection, N counts boxes, anchors or candidates, M truths, R boxes with features of their own,
K classes; of pose, K counts keypoints.

Indices are int32. A leading `...` means any leading axes, the same in all arguments.
"""

from cluenet_jax.ops.aggregate import aggregation_weights
from cluenet_jax.ops.assign import fit_scores, soft_dispatch
from cluenet_jax.ops.attention import attend
from cluenet_jax.ops.boxes import (
    ANCHOR_RATIOS,
    ANCHOR_SCALE,
    anchor_grid,
    anchor_validity,
    base_anchors,
    box_iou,
    clip_boxes,
    decode_boxes,
    encode_boxes,
    has_area,
)
from cluenet_jax.ops.cosine import cosine_similarity, l2_normalize
from cluenet_jax.ops.dense_predictions import View, dense_predictions
from cluenet_jax.ops.folds import cut_folds, fold_counts, join_folds
from cluenet_jax.ops.heatmaps import (
    decode_heatmaps,
    heatmap_loss,
    heatmap_targets,
    merge_mirrored,
)
from cluenet_jax.ops.matching import (
    IGNORED,
    INVALID,
    NEGATIVE,
    Samples,
    Thresholds,
    match_boxes,
    matched_truths,
    sample_boxes,
)
from cluenet_jax.ops.nms import multiclass_nms, nms
from cluenet_jax.ops.parts import cluster_in_parts, clusters_in_parts
from cluenet_jax.ops.pixel_loss import DENOMINATORS, segmentation_loss
from cluenet_jax.ops.platform import (
    adaptive_avg_pool,
    aggregate,
    best_fit,
    cluster_mean,
    confusion_matrix,
    density_peak_clustering,
    depthwise_conv3x3,
    dispatch,
    gelu,
    hard_assign,
    merge_tokens,
    nearest_center,
    segment_sum,
    traced_for,
)
from cluenet_jax.ops.ranking import pad_to, ranking, take
from cluenet_jax.ops.resize import resize_bilinear, resize_nearest
from cluenet_jax.ops.roi_align import box_levels, mask_targets, roi_align
from cluenet_jax.ops.windows import in_windows

__all__ = [
    "ANCHOR_RATIOS",
    "ANCHOR_SCALE",
    "DENOMINATORS",
    "IGNORED",
    "INVALID",
    "NEGATIVE",
    "Samples",
    "Thresholds",
    "View",
    "adaptive_avg_pool",
    "aggregate",
    "aggregation_weights",
    "anchor_grid",
    "anchor_validity",
    "attend",
    "base_anchors",
    "best_fit",
    "box_iou",
    "box_levels",
    "clip_boxes",
    "cluster_in_parts",
    "cluster_mean",
    "clusters_in_parts",
    "confusion_matrix",
    "cosine_similarity",
    "cut_folds",
    "decode_boxes",
    "decode_heatmaps",
    "dense_predictions",
    "density_peak_clustering",
    "depthwise_conv3x3",
    "dispatch",
    "encode_boxes",
    "fit_scores",
    "fold_counts",
    "gelu",
    "hard_assign",
    "has_area",
    "heatmap_loss",
    "heatmap_targets",
    "in_windows",
    "join_folds",
    "l2_normalize",
    "mask_targets",
    "match_boxes",
    "matched_truths",
    "merge_mirrored",
    "merge_tokens",
    "multiclass_nms",
    "nearest_center",
    "nms",
    "pad_to",
    "ranking",
    "resize_bilinear",
    "resize_nearest",
    "roi_align",
    "sample_boxes",
    "segment_sum",
    "segmentation_loss",
    "soft_dispatch",
    "take",
    "traced_for",
]
