"""Targets: what a part offers, and how long its logic takes.

Delays are in nanoseconds for a typical placed and routed path, estimated from the families' data
sheets (AMD DS925, Lattice FPGA-DS-02012, Lattice DS1040) with routing of the same size as the logic.
They only decide where pipeline registers go; a build never depends on them for its result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gatewright.diagnostics import error, nearest


@dataclass(frozen=True, slots=True)
class Family:
    """One FPGA family: its Yosys synthesis name and delays in ns.

    ``lut``: one level with its route; ``carry``: a carry chain's fixed part, ``carry_bit`` per bit;
    ``multiply``: a hard multiplier without its registers; ``lut_inputs``: inputs of one LUT.
    """

    name: str
    lut: float
    carry: float
    carry_bit: float
    multiply: float
    memory: float
    lut_inputs: int
    dsp_width: tuple[int, int]


FAMILIES = {
    "xcup": Family("xcup", 0.55, 0.65, 0.012, 2.4, 1.2, 6, (27, 18)),
    "ecp5": Family("ecp5", 1.00, 1.20, 0.070, 4.5, 3.5, 4, (18, 18)),
    "ice40": Family("ice40", 1.30, 1.30, 0.130, 12.0, 3.0, 4, (16, 16)),
}


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its family, and how much of each resource it has (bram in kilobits)."""

    family: str
    lut: int
    ff: int
    dsp: int
    bram_kilobits: int


PARTS = {
    "ecp5-12k": Part("ecp5", 12_000, 12_000, 28, 576),
    "ecp5-25k": Part("ecp5", 24_000, 24_000, 28, 1_008),
    "ecp5-45k": Part("ecp5", 44_000, 44_000, 72, 1_944),
    "ecp5-85k": Part("ecp5", 84_000, 84_000, 156, 3_744),
    "ice40-hx8k": Part("ice40", 7_680, 7_680, 0, 128),
    "ice40-up5k": Part("ice40", 5_280, 5_280, 8, 120),
    "xcup-zu3eg": Part("xcup", 70_560, 141_120, 360, 7_776),
    "xcup-zu7ev": Part("xcup", 230_400, 460_800, 1_728, 11_232),
    "xcup": Part("xcup", 1_182_240, 2_364_480, 6_840, 77_760),
}


@dataclass(frozen=True, slots=True)
class Target:
    """The part to compile for and the clock to pipeline for, in MHz; without ``use_dsp`` its multipliers stay unused.

    Raises ``GatewrightError`` GW0701 for an unknown part and GW0702 for a clock that is not positive.
    """

    name: str = "xcup"
    clock_mhz: float = 100.0
    use_dsp: bool = True

    def __post_init__(self) -> None:
        if self.name not in PARTS:
            close = nearest(str(self.name), PARTS)
            raise error(
                "GW0701",
                f"unknown target `{self.name}`",
                note=f"known: {', '.join(PARTS)}",
                help=f'did you mean "{close}"?' if close else "choose one of the known parts",
            )
        number = isinstance(self.clock_mhz, int | float)  # pyright: ignore[reportUnnecessaryIsInstance]
        if not number or not 0 < self.clock_mhz < math.inf:
            raise error("GW0702", f"the clock is {self.clock_mhz} MHz", help="give a clock above 0 MHz")

    @property
    def part(self) -> Part:
        """The part's resources."""
        return PARTS[self.name]

    @property
    def has_multipliers(self) -> bool:
        """Whether there are hard multipliers to be used."""
        return self.use_dsp and self.part.dsp > 0

    @property
    def family(self) -> Family:
        """The part's family."""
        return FAMILIES[self.part.family]

    @property
    def period(self) -> float:
        """Nanoseconds of a clock cycle left for logic: 10% are kept for clock skew and set-up."""
        return 900.0 / self.clock_mhz
