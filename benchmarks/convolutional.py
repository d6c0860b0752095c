"""Training of a plain backbone, convolutional or ViT, by any recipe, to compare ours with.

    python -m benchmarks.convolutional --config=configs/camvid.py:convolutional_nano \\
        --config.data.dir=ROOT --workdir=DIR

The same recipe, loop and head as for the clustering backbones; ViT suits classification alone.
"""

import pathlib

from absl import app, flags
from ml_collections import config_flags

from benchmarks import plain
from cluenet_jax.cli import train


def main(argv: list[str]) -> None:
    """The command line."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {' '.join(argv[1:])}")
    train.run(train.train, flags.FLAGS.config, flags.FLAGS.workdir)


if __name__ == "__main__":
    plain.register()
    recipe = config_flags.DEFINE_config_file("config", None, "The recipe, a file of configs/.")
    flags.DEFINE_string("workdir", None, "Checkpoints and metrics.", required=True)
    program = pathlib.Path(__file__).parents[1] / "main.py"
    app.run(main, flags_parser=lambda argv: train.parse_flags(argv, recipe, program))
