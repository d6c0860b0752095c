"""Forms of the operations that are fast on CPUs, each tested against the plain one in `ops/`.

Block sizes are arguments; `ops/platform.py` gives them and selects.
"""
