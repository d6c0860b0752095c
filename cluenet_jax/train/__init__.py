"""Training: optimizer, state, jitted steps and the loop over them; knows no task by name."""
