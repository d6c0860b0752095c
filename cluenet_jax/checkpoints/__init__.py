"""Checkpoints: Orbax directories that describe themselves and are checked before they are read."""
