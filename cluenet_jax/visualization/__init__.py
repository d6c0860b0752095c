"""Explanations as images and HTML reports."""

from cluenet_jax.visualization.figures import contact_sheet, draw_explanation
from cluenet_jax.visualization.html_report import assets, report, viewer
from cluenet_jax.visualization.instances import draw_instances
from cluenet_jax.visualization.keypoints import draw_keypoints

__all__ = [
    "assets",
    "contact_sheet",
    "draw_explanation",
    "draw_instances",
    "draw_keypoints",
    "report",
    "viewer",
]
