"""What a simulation run returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gatewright.sim.words import Words

Cycles = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class StreamResult:
    """What one stream carried.

    ``words``: uint64 [samples * beats], or limbs [samples * beats, limbs] above 64 bits; empty for inputs.
    ``first`` and ``last``: the cycles of each sample's first and last transfer, cycle 0 being the first after
    reset. ``transfers``: how many were seen (a tap's words beyond that are zero). ``trace`` (only with
    ``trace=True``): per cycle, tvalid in bit 0 and tready in bit 1.
    """

    words: Words
    first: Cycles
    last: Cycles
    transfers: int
    trace: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class SimulationResult:
    """All streams by name, and the number of cycles from reset to the last output transfer inclusive."""

    streams: Mapping[str, StreamResult]
    cycles: int
    samples: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def latency(self) -> int:
        """Cycles from the first input transfer of sample 0 to its last output transfer, inclusive."""
        begin = min(int(self.streams[name].first[0]) for name in self.inputs)
        return max(int(self.streams[name].last[0]) for name in self.outputs) - begin + 1

    @property
    def interval(self) -> float:
        """Cycles between samples at the slowest output: the mean over the run's second half; 0 for one sample."""
        if self.samples < 2:
            return 0.0
        half = self.samples // 2 if self.samples > 2 else 0
        passed = (int(self.streams[name].last[-1]) - int(self.streams[name].last[half]) for name in self.outputs)
        return max(passed, default=0) / (self.samples - 1 - half)
