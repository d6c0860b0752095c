"""The settings of pose estimation: their defaults, and what they take."""

from typing import Any

from cluenet_jax.settings import flag, integer, number, one_of, several, text

_PROBABILITY = number(least=0, most=1)
AUGMENT = {
    "shift": number(least=0),
    "shift_prob": _PROBABILITY,
    "flip_prob": _PROBABILITY,
    "half_body_prob": _PROBABILITY,
    "half_body_points": integer(1),
    "scale": number(least=0, below=1),
    "rotation": number(least=0, most=90),
    "rotation_prob": _PROBABILITY,
}
OWN = {
    "crop_size": several(integer(1), 2),
    "padding": number(least=1),
    "sigma": number(above=0),
    "eval_flip": flag(),
    "quarter_shift": one_of(("apart", "together")),
    "least_score": number(least=0, below=1),
    "max_similarity": number(above=0, most=1),
}
EVAL = {"boxes": text()}


def default_sections() -> dict[str, Any]:
    """The sections `augment` and `pose`, the head, the dataset, the boxes of an evaluation."""
    return dict(
        model=dict(head="heatmap_fpn"),
        data=dict(name="figures"),
        augment=dict(
            # On the host. Of the crop's center, a fraction of its sides.
            shift=0.16,
            shift_prob=0.3,
            flip_prob=0.5,
            # Crops of half a body, of objects with more labeled keypoints than this.
            half_body_prob=0.3,
            half_body_points=8,
            # Deviations of the factor of the crop's size and of its angle in degrees.
            scale=0.5,
            rotation=40.0,
            rotation_prob=0.6,
        ),
        # The boxes of an evaluation: a JSON file of a detector; "": the true ones.
        eval=dict(boxes=""),
        pose=dict(
            # Height and width of the crops.
            crop_size=(256, 192),
            # What boxes are multiplied with before they are cropped.
            padding=1.25,
            # Of the peaks that are learned, in pixels of a heatmap.
            sigma=2.0,
            # Mean with the heatmaps of the mirrored crop.
            eval_flip=True,
            # How a peak moves toward its higher neighbor near a border: "apart", each axis for
            # itself, as mmpose 1.x; "together", as mmpose 0.x.
            quarter_shift="apart",
            # Keypoints above this count for a pose's score.
            least_score=0.2,
            # Of two poses of an image more similar than this the better one is kept.
            max_similarity=0.9,
        ),
    )
