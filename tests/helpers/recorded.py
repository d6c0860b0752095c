"""The small models whose reference outputs are recorded in `tests/data/`."""

CLUENET = dict(
    dims=(8, 16, 24, 32),
    depths=(1, 2, 2, 1),
    num_heads=(1, 2, 2, 4),
    head_dim=8,
    mlp_ratios=(4, 4, 2, 2),
)
# What the three cases differ in.
CLUENET_CASES = {
    "cluenet_nano_32": dict(center_grid=(4, 4), patch=(3, 1, 1), norm_after_pooling=True),
    "cluenet_nano_40x48": dict(center_grid=(4, 4), patch=(3, 1, 1), norm_after_pooling=False),
    "cluenet_nano_224": dict(center_grid=(7, 7), patch=(4, 4, 0), norm_after_pooling=False),
}
CLUSTR = dict(
    dims=(16, 32, 40, 64),
    depths=(1, 2, 1, 1),
    num_heads=(1, 2, 5, 8),
    mlp_ratios=(4, 4, 2, 2),
    patch=(7, 4),
)
NUM_CLASSES = 10
