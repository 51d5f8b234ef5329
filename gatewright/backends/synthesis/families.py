"""The FPGA families: the Yosys command of each, and what its cells amount to.

Counting follows the published comparisons: for ``xcup``, LUT is the sum of LUT1 to LUT6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gatewright.diagnostics import error, nearest


def _no_weights() -> dict[str, int]:
    return {}


@dataclass(frozen=True, slots=True)
class Resources:
    """What a design or a module takes.

    ``lut``: logic look-up tables (those of carry chains included where the family spends LUTs on
    them); ``lutram``: look-up tables used as memory or shift register, not in ``lut``; ``ff``:
    registers; ``dsp``: multiplier blocks; ``bram``: block RAMs in the family's smallest unit (see
    :class:`Family`); ``carry``: carry cells; ``cells``: every cell type with its count.
    """

    lut: int
    ff: int
    dsp: int
    bram: int
    lutram: int
    carry: int
    cells: dict[str, int]


@dataclass(frozen=True, slots=True)
class Family:
    """One family: its command and the weight of each cell type in each kind of resource.

    A key that ends in ``*`` stands for all types with that beginning. ``bram_unit`` says what one
    of ``bram`` is.
    """

    name: str
    command: str
    flatten: str  # the option that dissolves the hierarchy
    keep: str  # the option that keeps it
    dsp_option: str  # what allows multiplier blocks
    no_dsp_option: str  # what forbids them
    bram_unit: str
    lut: Mapping[str, int]
    ff: Mapping[str, int]
    dsp: Mapping[str, int]
    bram: Mapping[str, int]
    carry: Mapping[str, int]
    lutram: Mapping[str, int] = field(default_factory=_no_weights)

    def script(self, top: str, *, flatten: bool, no_dsp: bool, no_bram: bool) -> str:
        """The synthesis command for ``top``."""
        words = [self.command, self.flatten if flatten else self.keep]
        words += [self.no_dsp_option if no_dsp else self.dsp_option, "-nobram" if no_bram else ""]
        return " ".join(word for word in (*words, f"-top {top}") if word)

    def resources(self, cells: Mapping[str, int]) -> Resources:
        """What these cells take."""
        return Resources(
            lut=_weigh(cells, self.lut),
            ff=_weigh(cells, self.ff),
            dsp=_weigh(cells, self.dsp),
            bram=_weigh(cells, self.bram),
            lutram=_weigh(cells, self.lutram),
            carry=_weigh(cells, self.carry),
            cells=dict(sorted(cells.items())),
        )


def _weigh(cells: Mapping[str, int], weights: Mapping[str, int]) -> int:
    """The weighted count of the cells that a table of weights names."""
    beginnings = {key[:-1]: weight for key, weight in weights.items() if key.endswith("*")}
    total = 0
    for cell, count in cells.items():
        weight = weights.get(cell)
        if weight is None:
            weight = next((each for start, each in beginnings.items() if cell.startswith(start)), 0)
        total += weight * count
    return total


_XCUP_MEMORY = {
    "SRL16E": 1,
    "SRLC16E": 1,
    "SRLC32E": 1,
    "RAM32X1S": 1,
    "RAM64X1S": 1,
    "RAM32X1D": 2,
    "RAM64X1D": 2,
    "RAM128X1S": 2,
    "RAM128X1D": 4,
    "RAM256X1S": 4,
    "RAM256X1D": 8,
    "RAM512X1S": 8,
    "RAM32M": 4,
    "RAM64M": 4,
    "RAM32M16": 8,
    "RAM64M8": 8,
    "RAM64X8SW": 8,
}

FAMILIES: dict[str, Family] = {
    "xcup": Family(
        name="xcup",
        command="synth_xilinx -family xcup -noiopad",
        flatten="-flatten",
        keep="",
        dsp_option="",
        no_dsp_option="-nodsp",
        bram_unit="RAMB18E2, 18 Kbit; a RAMB36E2 counts as two",
        lut={f"LUT{inputs}": 1 for inputs in range(1, 7)} | {"LUT6_2": 1},
        ff={"FDRE": 1, "FDSE": 1, "FDCE": 1, "FDPE": 1, "FDRE_1": 1, "FDSE_1": 1, "FDCE_1": 1, "FDPE_1": 1},
        dsp={"DSP48E2": 1},
        bram={"RAMB18E2": 1, "RAMB36E2": 2},
        carry={"CARRY4": 1, "CARRY8": 1},
        lutram=_XCUP_MEMORY,
    ),
    "ecp5": Family(
        name="ecp5",
        command="synth_ecp5",
        flatten="",
        keep="-noflatten",
        dsp_option="",
        no_dsp_option="-nodsp",
        bram_unit="DP16KD, 18 Kbit",
        lut={"LUT4": 1, "CCU2C": 2},  # a carry cell occupies two LUT4
        ff={"TRELLIS_FF": 1},
        dsp={"MULT18X18D": 1, "MULT9X9D": 1, "ALU54B": 1},
        bram={"DP16KD": 1, "PDPW16KD": 1},
        carry={"CCU2C": 1},
        lutram={"TRELLIS_DPR16X4": 4},
    ),
    "ice40": Family(
        name="ice40",
        command="synth_ice40",
        flatten="",
        keep="-noflatten",
        dsp_option="-dsp",  # the UltraPlus parts have them
        no_dsp_option="",
        bram_unit="SB_RAM40_4K, 4 Kbit",
        lut={"SB_LUT4": 1},
        ff={"SB_DFF*": 1},
        dsp={"SB_MAC16": 1},
        bram={"SB_RAM40_4K*": 1},
        carry={"SB_CARRY": 1},
    ),
}


def find_family(name: str) -> Family:
    """The family of this name; GW0602 names the known ones."""
    if name not in FAMILIES:
        close = nearest(name, FAMILIES)
        raise error(
            "GW0602",
            f"unknown FPGA family `{name}`",
            note="known families: " + ", ".join(FAMILIES),
            help=f'family="{close}"' if close else "use one of the known families",
        )
    return FAMILIES[name]
