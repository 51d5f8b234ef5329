"""The written project: its own testbench passes, and fails where an expected word is wrong."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import gatewright as gw
from gatewright.sim.toolchain import find_toolchain
from tests.e2e.models import make_mlp

FLAGS = ("--binary", "--timing", "-Wall", "-CFLAGS", "-std=gnu++20 -fcoroutines")


@pytest.mark.slow
def test_testbench_checks_every_beat(tmp_path: Path) -> None:
    model, example, batches = make_mlp()
    design = gw.compile(model, example, formats="fixed<8,auto>", calibration=batches, interval=24)
    folder = design.write(tmp_path / "build")
    tools = find_toolchain()
    sources = [*sorted((folder / "rtl").glob("*.sv")), folder / "simulation" / "sequential_tb.sv"]
    built = subprocess.run(
        [tools.verilator, *FLAGS, "-Wno-fatal", "--top-module", "sequential_tb", *sources],
        cwd=folder / "rtl",
        env={**os.environ, **tools.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    program = folder / "rtl" / "obj_dir" / "Vsequential_tb"
    passed = subprocess.run([program], cwd=folder / "rtl", capture_output=True, text=True, check=False)
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert "PASS: sequential" in passed.stdout
    vectors = folder / "simulation" / "output.hex"
    lines = vectors.read_text().splitlines()
    lines[3] = f"{int(lines[3], 16) ^ 1:0{len(lines[3])}x}"
    vectors.write_text("\n".join(lines) + "\n")
    failed = subprocess.run([program], cwd=folder / "rtl", capture_output=True, text=True, check=False)
    assert failed.returncode != 0
    assert "output beat 3" in failed.stdout
