"""The driver's random numbers in Python, so that both harnesses stall alike, cycle for cycle."""

from __future__ import annotations

from dataclasses import dataclass

MASK = (1 << 64) - 1


@dataclass(slots=True)
class StallSource:
    """The stalls of one stream: ``position`` is its place among the design's streams (see driver.cpp)."""

    seed: int
    position: int
    state: int = 0

    def __post_init__(self) -> None:
        self.state = ((self.seed + 1) * 0xD1342543DE82EF95 + 0x632BE59BD9B4E019 * (self.position + 1)) & MASK

    def below(self, threshold: int) -> bool:
        """True with probability threshold / 2**32."""
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        mixed = self.state
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & MASK
        return ((mixed ^ (mixed >> 31)) >> 32) < threshold
