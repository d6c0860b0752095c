"""The clusters that keypoints of a pose are in."""

from typing import Any

from cluenet_jax.explain.explanation import Explanation


def clusters_of_keypoints(explanation: Explanation) -> list[dict[str, Any]]:
    """For each keypoint of an explanation which cluster of each stage owns its pixel.

    Returns:
      `name`, `score`, `x` and `y`; `clusters`, for each stage a list of the numbers of each head's
      cluster, from 1 on as `Explanation.stage_map` has them; and `regions`, by K the number of the
      region of the decision map. Keypoints outside of the image are left out.
    """
    height, width = explanation.image.shape[:2]
    stages = [
        [explanation.stage_map(stage, head) for head in range(len(clusters))]
        for stage, clusters in enumerate(explanation.clusters, 1)
    ]
    rows = []
    for name, score, x, y in explanation.keypoints:
        # Of what is written down: peaks between two pixels are common.
        x, y = round(x, 3), round(y, 3)
        row, column = int(y + 0.5), int(x + 0.5)
        if not (0 <= row < height and 0 <= column < width):
            continue
        clusters = [[int(index[row, column]) for index in heads] for heads in stages]
        regions = {str(k): int(map_[row, column]) for k, map_ in explanation.decisions.items()}
        rows.append(
            {
                "name": name,
                "score": round(score, 6),
                "x": x,
                "y": y,
                "clusters": clusters,
                "regions": regions,
            }
        )
    return rows
