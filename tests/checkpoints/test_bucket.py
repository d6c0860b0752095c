"""Workdirs on `gs://`: the same run, on a local emulator of Google Cloud Storage."""

import logging
import socket

import chex
import pytest
from etils import epath

from cluenet_jax.checkpoints.convert import convert
from cluenet_jax.checkpoints.load import load
from cluenet_jax.checkpoints.lock import lock_workdir
from cluenet_jax.errors import UserError
from tests.helpers.runs import STEPS, records_of

pytest.importorskip("gcsfs", reason="buckets need cluenet-jax[gcs]")
server = pytest.importorskip("gcp_storage_emulator.server", reason="needs gcp-storage-emulator")


@pytest.fixture
def bucket(monkeypatch):
    """The address of an empty bucket, known to this process and those it starts."""
    from gcp_storage_emulator.exceptions import NotFound
    from gcp_storage_emulator.handlers import objects

    download = objects.download

    def with_generation(request, response, storage):
        """TensorStore asks for this header, which the emulator forgets."""
        names = request.params["bucket_name"], request.params["object_id"]
        try:
            response["x-goog-generation"] = storage.get_file_obj(*names)["generation"]
        except NotFound:
            pass
        return download(request, response, storage)

    monkeypatch.setattr(objects, "download", with_generation)
    logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("TENSORSTORE_GCS_HTTP_URL", f"http://127.0.0.1:{port}")
    # Else gcsfs looks for Google's own servers first.
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    emulator = server.create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket")
    emulator.start()
    yield epath.Path("gs://bucket")
    emulator.stop()


def test_a_bucket_that_is_not_there_is_refused_before_training(bucket):
    with pytest.raises(UserError, match="gs://mistyped/run cannot be written"):
        lock_workdir(epath.Path("gs://mistyped/run"), True)


def test_a_conversion_does_not_write_over_another_one(bucket, tmp_path):
    (bucket / "used" / "checkpoints" / "0" / "metadata_json").write_text("{}")
    with pytest.raises(UserError, match="gs://bucket/used is not empty"):
        convert("weights.npz", "gs://bucket/used", "cluenet_nano")


@pytest.mark.chaos
def test_a_run_in_a_bucket_resumes_past_a_corrupt_checkpoint(runner, undisturbed, bucket):
    workdir = bucket / "runs" / "one"
    runner.run("unused", f"--workdir={workdir}", "--config.train.max_steps=12")
    (workdir / "checkpoints" / "12" / "metadata_json" / "metadata").write_text("{")
    output = runner.run("unused", f"--workdir={workdir}")
    assert "metadata_json/metadata has 1 bytes" in output, "the manifest tells"
    assert "quarantine" in output and f"Resuming after step 10 of {STEPS}" in output
    assert not (runner.folder / "unused").exists()

    ours, theirs = (
        load(str(place / "checkpoints" / str(STEPS))) for place in (workdir, undisturbed)
    )
    chex.assert_trees_all_equal(ours.variables, theirs.variables)
    assert records_of(workdir) == runner.records("undisturbed")
    assert len(list((workdir / "tensorboard").iterdir())) == 2
