"""Arguments of the conversion of a recorded case."""

import json

from tests.helpers import recorded

NAME = "cluenet_nano_32"
OPTIONS = {**recorded.CLUENET, **recorded.CLUENET_CASES[NAME]}
ARGUMENTS = ["--backbone=cluenet_nano", f"--options={json.dumps(OPTIONS)}", "--image_size=32"]
