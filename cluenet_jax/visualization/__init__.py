"""Explanations as images and HTML reports."""

from cluenet_jax.visualization.figures import contact_sheet, draw_explanation
from cluenet_jax.visualization.html_report import assets, report, viewer

__all__ = ["assets", "contact_sheet", "draw_explanation", "report", "viewer"]
