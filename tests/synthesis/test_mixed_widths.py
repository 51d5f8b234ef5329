"""LUTs of a layer without hard multipliers grow no faster than the product of the widths of its two operands."""

from __future__ import annotations

import pytest

from benchmarks.format_hardware import MIXED_WIDTHS, Widths, growths, mixed_costs


@pytest.mark.parametrize(
    "widths",
    [((8, 2), (8, 3), (8, 4)), pytest.param(MIXED_WIDTHS, marks=pytest.mark.slow)],
    ids=["the steepest steps", "all"],
)
def test_growth(widths: tuple[Widths, ...]) -> None:
    """The layers of the benchmark, every one with every wider one."""
    growth = growths(mixed_costs(widths))
    assert len(growth) >= len(widths)
    assert {step: each for step, each in growth.items() if each > 1.0} == {}
