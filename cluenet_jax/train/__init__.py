"""Training: optimiser, state, jitted steps, checkpoints and the loop over them."""
