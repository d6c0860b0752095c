"""Metrics on the host, streamed: NumPy in, numbers out."""
