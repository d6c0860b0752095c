"""What a model looks at: maps as arrays, importance, and measures of their faithfulness."""

from cluenet_jax.explain.explanation import Explanation, explain_image
from cluenet_jax.explain.faithfulness import (
    Faithfulness,
    deletion_insertion,
    evaluate_explanations,
    grad_cam,
)
from cluenet_jax.explain.importance import (
    BestTargetsFn,
    Importance,
    ScoreFn,
    class_probability,
    importance,
    importance_of_masks,
    predicted_class,
)
from cluenet_jax.explain.instances import (
    Instance,
    InstanceComparison,
    best_union,
    instance_agreement,
)
from cluenet_jax.explain.keypoints import clusters_of_keypoints
from cluenet_jax.explain.maps import (
    ClusterMaps,
    cluster_maps,
    compute_maps,
    decision_map,
    decision_regions,
    gate_map,
    receptive_fields,
    to_image_grid,
)
from cluenet_jax.explain.mask_agreement import (
    PartitionComparison,
    bootstrap_interval,
    mask_agreement,
)
from cluenet_jax.explain.partitions import (
    grid_partition,
    partitions_to_compare,
    slic_partition,
)

__all__ = [
    "BestTargetsFn",
    "ClusterMaps",
    "Explanation",
    "Faithfulness",
    "Importance",
    "Instance",
    "InstanceComparison",
    "PartitionComparison",
    "ScoreFn",
    "best_union",
    "bootstrap_interval",
    "class_probability",
    "cluster_maps",
    "clusters_of_keypoints",
    "compute_maps",
    "decision_map",
    "decision_regions",
    "deletion_insertion",
    "evaluate_explanations",
    "explain_image",
    "gate_map",
    "grad_cam",
    "grid_partition",
    "importance",
    "importance_of_masks",
    "instance_agreement",
    "mask_agreement",
    "partitions_to_compare",
    "predicted_class",
    "receptive_fields",
    "slic_partition",
    "to_image_grid",
]
