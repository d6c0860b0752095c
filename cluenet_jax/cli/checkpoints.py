"""The checkpoint that a tool is given, or else weights in the package."""

import sys

from cluenet_jax.checkpoints.one_file import read_metadata
from cluenet_jax.pretrained import DEFAULT, list_pretrained, pretrained_file

CHECKPOINT_HELP = (
    "a workdir, WORKDIR/checkpoints/STEP, a file .safetensors of `export`, or the name of weights "
    f"in the package: {', '.join(list_pretrained())}"
)
OPTIONAL_CHECKPOINT_HELP = f"{CHECKPOINT_HELP}; by default {DEFAULT}"


def checkpoint_or_default(given: str | None) -> str:
    """What `load` takes: a given checkpoint, or the default, which is announced in one line."""
    if given is not None:
        return given
    metadata = read_metadata(pretrained_file(DEFAULT))
    best = metadata.best_metric
    print(
        f"No --checkpoint: {DEFAULT} is used, {metadata.config['model']['backbone']} trained on "
        f"{metadata.info.name} ({metadata.info.num_classes} targets, eval {best} "
        f"{metadata.metrics[best]:.1%}); give --checkpoint=DIR for yours.",
        file=sys.stderr,
    )
    return DEFAULT
