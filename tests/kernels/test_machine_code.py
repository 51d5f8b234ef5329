"""Launches that begin before their predecessor ends load what it writes only after they have waited for it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import triton

from gatewright.kernels import cuda_build, device

KERNELS = Path(cuda_build.__file__).parent
WAITS = re.compile(r'^\s+(if .*)?(wait_for_previous_launch\(\)|asm volatile\("griddepcontrol\.wait)', re.MULTILINE)
WAITING = sorted(path.stem for path in KERNELS.glob("*_cuda.cu") if WAITS.search(cuda_build.text_with_includes(path)))


def loads_before_the_wait(text: str) -> list[str]:
    """Of each function of a disassembly, the loads that stand before its last wait and may be of what is not promised.

    Promised are the weights, which come by LDGSTS, and groups' scales, 16 or 32 bits each.
    """
    found: list[str] = []
    for function in text.split("Function : ")[1:]:
        lines = re.findall(r"^\s*/\*[0-9a-f]{4,5}\*/\s+(.*?);", function, re.MULTILINE)
        waits = [place for place, line in enumerate(lines) if "ACQBULK" in line]
        before = lines[: waits[-1]] if waits else []
        found += [line for line in before if re.search(r"\bLDG\.\S*(CONSTANT|64|128)", line)]
    return found


def test_there_are_such_kernels() -> None:
    assert {"fp4_decode_cuda", "integer_decode_cuda", "half_decode_cuda", "rows_cuda", "attention_decode_cuda"} <= set(
        WAITING
    )


@pytest.mark.parametrize("name", WAITING)
def test_no_load_moves_before_the_wait(name: str, where: str) -> None:
    source = re.sub(r"//.*", "", cuda_build.text_with_includes(KERNELS / f"{name}.cu"))
    assert "ld.global.nc" not in source  # of data that is never written; the assembler moves such loads
    device.LAUNCHES["disassembly", "gpu" if where == "cuda" else "no machine: there is no GPU to build for"] += 1
    if where != "cuda":
        return
    library = cuda_build.library(name)
    assert library is not None, "CUDA's nvcc builds the kernels; put it on the PATH"
    beside = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    disassembler = shutil.which("cuobjdump") or str(beside)
    done = subprocess.run([disassembler, "-sass", library._name], capture_output=True, text=True, check=True)
    assert "ACQBULK" in done.stdout
    assert not loads_before_the_wait(done.stdout)
