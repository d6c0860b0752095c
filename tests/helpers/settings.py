"""Names of all settings."""

from ml_collections import ConfigDict


def flat_keys(config: ConfigDict, prefix: str = "") -> list[str]:
    """Such as `optim.peak_lr`."""
    keys = []
    for key in config:
        # Placeholders without a value are fields, not sections.
        value = config[key]
        path = f"{prefix}{key}"
        keys += flat_keys(value, f"{path}.") if isinstance(value, ConfigDict) else [path]
    return keys
