"""The description of a dataset: JSON and back."""

import json

from cluenet_jax.data import DatasetInfo


def test_json_and_back():
    info = DatasetInfo("birds", ("crow", "owl"), (0.5, 0.25, 0.0), (1.0, 0.5, 0.25))
    fields = json.loads(json.dumps(info.to_json()))
    assert fields == info.to_json()
    assert DatasetInfo.from_json(fields) == info
    assert info.num_classes == 2
