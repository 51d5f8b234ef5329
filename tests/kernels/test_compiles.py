"""The kernels compile for the GPU, on machines without one too: the interpreter never sees the GPU's own branches."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

EVERY = 9
"""Of the calls that are compiled, one in so many in the quick suite."""


@pytest.mark.parametrize("step", [pytest.param(EVERY, id="some"), pytest.param(1, id="all", marks=pytest.mark.slow)])
def test_kernels_compile(step: int, tmp_path: os.PathLike[str]) -> None:
    settings = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "tests.kernels.compile_kernels", str(step)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=settings)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert ", 0 failed" in done.stdout
