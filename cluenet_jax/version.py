"""The package's version, in a module of its own so that a build reads it without JAX."""

__version__ = "0.1.0"
