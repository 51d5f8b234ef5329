"""Folding to a budget: the smallest interval whose estimated resources fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from gatewright.diagnostics import GatewrightError, error
from gatewright.goals import check_budget
from gatewright.ir.graph import Graph
from gatewright.ir.streams.cost import MEMORY_BITS, Cost, estimate, estimate_network
from gatewright.ir.streams.folding import serial_interval
from gatewright.ir.streams.network import Network
from gatewright.ir.targets import FAMILIES, Target

if TYPE_CHECKING:
    from gatewright.schedule import Schedule


def excess(cost: Cost, budget: Mapping[str, int]) -> list[str]:
    """What of ``cost`` is over ``budget``, as text."""
    found: list[str] = []
    for name, amount in budget.items():
        used = getattr(cost, name)
        if used > amount:
            found.append(f"{name}: {used:,.0f} needed, {amount:,} allowed, {used - amount:,.0f} too many (estimated)")
    return found


def fastest_within(
    graph: Graph, target: Target, budget: Mapping[str, int], at_interval: Callable[[Graph, Target, int], Schedule]
) -> Schedule:
    """The schedule of the smallest interval whose estimate fits ``budget``.

    Cost falls as the interval grows, so the interval is found by bisection. Raises GW0709 where even
    the serial design does not fit, with what is missing.
    """
    check_budget(budget)
    slowest = serial_interval(graph)
    best = at_interval(graph, target, slowest)
    missing = excess(estimate_network(best.network), budget)
    if missing:
        raise error(
            "GW0709",
            "the budget is too small even for the serial design",
            note=missing,
            help="raise the budget, use narrower formats, or choose a larger part",
        )
    low, high = 0, slowest  # low does not fit or is impossible, high fits
    while high - low > max(1, high // 256):
        middle = (low + high) // 2
        candidate = _try(graph, target, middle, at_interval)
        if candidate is not None and not excess(estimate_network(candidate.network), budget):
            best, high = candidate, middle
        else:
            low = middle
    return best


def _try(
    graph: Graph, target: Target, interval: int, at_interval: Callable[[Graph, Target, int], Schedule]
) -> Schedule | None:
    try:
        return at_interval(graph, target, interval)
    except GatewrightError:
        return None  # this interval is below what the rows of a layer allow


def check_part(network: Network, target: Target) -> None:
    """Raise GW0716 where the memories need more block memory than the part has.

    A target that names a family, and no part, is taken to be as large as it needs to be.
    """
    if target.name in FAMILIES:
        return
    costs = [(estimate(each), each) for each in network.components]
    needed = sum(cost.bram for cost, _ in costs) * MEMORY_BITS / 1024
    if needed <= target.part.bram_kilobits:
        return
    largest, component = max(costs, key=lambda pair: pair[0].bram)
    available = target.part.bram_kilobits
    raise error(
        "GW0716",
        f"the memories do not fit {target.name}: {needed:,.0f} kilobits of block memory are needed",
        location=component.location,
        note=[
            f"the part has {available:,} kilobits, {needed - available:,.0f} too few (estimated)",
            f"the largest is {component.name}, {largest.bram * MEMORY_BITS / 1024:,.0f} kilobits",
        ],
        help="choose a larger part, or give the weights fewer bits",
    )
