"""What a network looks at: maps as arrays, scores that judge them, and how to draw them."""

from cluenet_jax.explain.importance import Importance, importance
from cluenet_jax.explain.maps import (
    Look,
    cluster_maps,
    decision_map,
    decision_regions,
    gate_map,
    in_image,
    look,
    receptive_fields,
)
from cluenet_jax.explain.quality import (
    MapScores,
    deletion_insertion,
    evaluate_maps,
    grad_cam,
    mask_agreement,
)
from cluenet_jax.explain.seen import Seen, see

__all__ = [
    "Importance",
    "Look",
    "MapScores",
    "Seen",
    "cluster_maps",
    "decision_map",
    "decision_regions",
    "deletion_insertion",
    "evaluate_maps",
    "gate_map",
    "grad_cam",
    "importance",
    "in_image",
    "look",
    "mask_agreement",
    "receptive_fields",
    "see",
]
