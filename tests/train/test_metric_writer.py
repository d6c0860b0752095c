"""`metrics.jsonl` and TensorBoard events."""

import json
import math

from etils import epath

from cluenet_jax.train.metric_writer import MetricWriter, read_metrics


def test_a_writer_resumes_where_the_checkpoint_is(tmp_path):
    workdir = epath.Path(tmp_path)
    writer = MetricWriter(workdir, 0, 10, batch_size=8)
    for step in (1, 2, 3):
        writer.write(step, loss=math.nan if step == 1 else float(step))
    writer.close()
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # Cut short by a kill.
    writer = MetricWriter(workdir, 2, 10, batch_size=8)
    writer.write(3, loss=9.0)
    writer.close()
    records = read_metrics(workdir / "metrics.jsonl")
    assert [(r["step"], r["loss"]) for r in records] == [(1, "nan"), (2, 2.0), (3, 9.0)]
    assert all(json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines())
    assert list((workdir / "tensorboard").glob("events*"))
