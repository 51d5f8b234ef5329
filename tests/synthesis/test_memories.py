"""Weights' memories in logic: about a look-up table a column, whatever reads them, and the same numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import gatewright as gw
from gatewright.backends.verilog import memories
from gatewright.backends.verilog.memories import rom_parameters
from gatewright.sim.lint import lint

INPUTS, OUTPUTS = 32, 40
LANES = 32


def layer() -> nn.Linear:
    """Of every 8 lanes the weights of one are not negative, of one odd and negative: columns of zeros and of ones."""
    torch.manual_seed(0)
    linear = nn.Linear(INPUTS, OUTPUTS)
    with torch.no_grad():
        codes = torch.randint(-31, 32, linear.weight.shape)
        codes[:, 0::8] = codes[:, 0::8].abs()
        codes[:, 1::8] = -(codes[:, 1::8].abs() | 1)
        linear.weight.copy_(codes / 64)
    return linear


def compiled() -> gw.Design:
    """40 words of 32 weights."""
    formats = {"default": {"input": "fixed<8,4>", "weight": "fixed<6,6>", "bias": "fixed<8,4>"}}
    design = gw.compile(layer(), (torch.randn(2, INPUTS),), formats, interval=OUTPUTS)
    assert design.schedule.folding.multipliers == LANES
    return design


def memory(columns: list[str]) -> tuple[str, int]:
    """A memory's file and width from its columns of bits, the lowest first."""
    words = [int("".join(bits)[::-1], 2) for bits in zip(*columns, strict=True)]
    return "".join(f"{word:x}\n" for word in words), len(columns)


def test_a_memory_apart_computes_the_same(tmp_path: Path) -> None:
    """Columns that are constant are told to the hardware, which the simulation then holds to the golden model."""
    design = compiled()
    assert lint(design.hardware.write(tmp_path), design.hardware.top, yosys=True) == []
    top = design.hardware.files[f"{design.hardware.top}.sv"]
    assert all(name in top for name in (".RomApart(1)", ".RomZeros(192'h", ".RomOnes(192'h"))
    design.verify(torch.randn(16, INPUTS) * 4, stalls="both")


def test_a_memory_apart_takes_a_table_a_column(monkeypatch: pytest.MonkeyPatch) -> None:
    design = compiled()
    apart = design.synth("xcup", per_module=["gw_last"])  # a breakdown; the memory has its boundary already
    (rom,) = (use for name, use in apart.modules.items() if name.startswith("gw_rom_logic"))
    varying = 6 * LANES - 3 * LANES // 8  # two signs and a lowest bit of every 8 lanes are constant
    assert rom.total.ff == varying
    assert rom.total.lut <= 1.05 * varying
    monkeypatch.setattr(memories, "SMALL_WORDS", OUTPUTS)
    together = compiled().synth("xcup")
    assert together.lut > apart.lut + rom.total.lut
    assert (together.ff, together.dsp, together.bram) == (apart.ff, apart.dsp, apart.bram)


def test_constant_columns_are_told() -> None:
    columns = [f"{3**k * 0x9E3779B97F4A7C15 % 2**40:040b}" for k in range(30)]
    columns[3], columns[4] = "0" * 40, "1" * 40
    assert rom_parameters(*memory(columns)) == [("RomApart", "1"), ("RomZeros", "30'h8"), ("RomOnes", "30'h10")]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["01" * 8, "0011" * 4, "0110" * 4], []),
        (["01" * 16] * 20, []),
        ([f"{k * 0x9E3779B97F4A7C15 % 2**400:0400b}" for k in range(1, 37)], [("RomBlock", "1")]),
    ],
    ids=["few words", "equal columns", "a block memory"],
)
def test_elsewhere(columns: list[str], expected: list[tuple[str, str]]) -> None:
    assert rom_parameters(*memory(columns)) == expected
