"""All tests run on two CPU devices, so that sharding runs anywhere.

XLA optimises less: most of the tests' time would be compilation.
"""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
)
