"""The description of a dataset: JSON and back."""

import dataclasses
import json

from cluenet_jax.data import DatasetInfo


def test_json_and_back():
    info = DatasetInfo("birds", ("crow", "owl"), (0.5, 0.25, 0.0), (1.0, 0.5, 0.25))
    fields = json.loads(json.dumps(info.to_json()))
    assert fields == info.to_json()
    assert DatasetInfo.from_json(fields) == info
    assert info.num_classes == 2
    colored = dataclasses.replace(info, colors=((1, 2, 3), (4, 5, 6)))
    assert DatasetInfo.from_json(json.loads(json.dumps(colored.to_json()))) == colored
    # As checkpoints of before had it.
    del fields["colors"]
    assert DatasetInfo.from_json(fields) == info


def test_every_class_has_a_color():
    info = DatasetInfo("any", tuple(map(str, range(255))), (0.5,) * 3, (0.5,) * 3)
    assert len(set(info.palette)) == 255
    # As PASCAL VOC's masks have them: background, aeroplane, bicycle, bird and the last one.
    assert info.palette[:4] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert info.palette[20] == (0, 64, 128)
