"""Command lines: `python -m cluenet_jax VERB` and `cluenet VERB`, a module per verb."""
