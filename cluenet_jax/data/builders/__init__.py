"""TFDS builders of our own, for what TFDS lacks or cannot prepare without TensorFlow.

Each module is imported only when its dataset is asked for: importing TFDS takes
seconds. Names begin with `cluenet_`, so that they never meet TFDS's own.
"""
