"""Settings that hold for every test: one numerical thread a process, and examples that repeat."""

from __future__ import annotations

import os

# Before numpy and torch are imported: the test processes share the machine's cores.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

from hypothesis import HealthCheck, settings

# Every run tries the same examples: a failure repeats, and no run is greener than another.
settings.register_profile(
    "gatewright", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
settings.load_profile("gatewright")
