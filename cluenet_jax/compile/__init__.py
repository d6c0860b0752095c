"""Programs compiled for accelerators that are not there: what they need, cost and communicate."""
