"""Forms of the operations that suit TPUs, each tested against the plain one in `ops/`.

Products and reductions alone: a scatter, a gather by index or a sort is slow on a TPU. Every
operation keeps the batch as an axis of its own, so that no image crosses devices. Block sizes
are arguments; `ops/platform.py` gives them and selects.
"""
