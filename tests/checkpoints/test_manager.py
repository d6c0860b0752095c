"""What is corruption, and what passes."""

from cluenet_jax.checkpoints.manager import is_corruption


def test_what_passes_is_no_corruption():
    """Else a good checkpoint would be quarantined when the network is down."""
    corruption = [FileNotFoundError("no"), ValueError("DATA_LOSS: cut short"), KeyError("meta")]
    passing = [
        PermissionError("no"),
        TimeoutError("no"),
        MemoryError(),
        ValueError("UNAVAILABLE: CURL error"),
        ValueError("Gloo all-reduce failed"),
    ]
    assert all(is_corruption(error) for error in corruption)
    assert not any(is_corruption(error) for error in passing)
