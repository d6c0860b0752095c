"""`python -m cluenet_jax VERB`."""

from cluenet_jax.cli.main import main

main()
