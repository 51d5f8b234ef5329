"""Folding to a budget: the smallest interval whose estimated resources fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from math import ceil
from typing import TYPE_CHECKING

from gatewright.diagnostics import error
from gatewright.goals import check_budget
from gatewright.ir.graph import Graph
from gatewright.ir.streams.cost import MEMORY_BITS, Cost, estimate, estimate_network
from gatewright.ir.streams.folding import serial_interval
from gatewright.ir.streams.network import Network
from gatewright.ir.targets import FAMILIES, Target

if TYPE_CHECKING:
    from gatewright.schedule import Schedule


def excess(cost: Cost, budget: Mapping[str, float]) -> list[str]:
    """What of ``cost`` is over ``budget``, as text."""
    found: list[str] = []
    for name, amount in budget.items():
        used = getattr(cost, name)
        if used > amount:
            needed = ceil(used)
            found.append(f"{name}: {needed:,} needed, {amount:,} allowed, {needed - amount:,.0f} too many (estimated)")
    return found


REFINED = 64
"""Designs of a small graph that are tried beyond the one that bisection finds."""
SMALL, SHORT = 8, 4096
"""The most contractions of a small graph, and the cycles of its serial design: what is simulated in no time."""
BEYOND = 2.0
"""So many times over the budget no faster design is tried: cost may fall a little as the interval does, not by that."""


def fastest_within(
    graph: Graph,
    target: Target,
    budget: Mapping[str, int],
    attempted: Callable[[Graph, Target, int], Schedule | None],
    faster: Callable[[Graph, Target, int], Iterator[Schedule]],
) -> Schedule:
    """The schedule of the smallest interval whose estimate fits ``budget``.

    Cost falls nearly always as the interval grows, so the interval is found by bisection; of small graphs the
    designs that are faster still are then tried one by one. ``attempted`` gives the design for an interval,
    ``faster`` all those for smaller ones. Raises GW0709 where even the serial design does not fit, with what is
    missing.
    """
    check_budget(budget)
    slowest = serial_interval(graph)
    best = attempted(graph, target, slowest)
    assert best is not None  # the serial interval is what the serial design takes
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
        candidate = attempted(graph, target, middle)
        if candidate is not None and not excess(estimate_network(candidate.network), budget):
            best, high = candidate, middle
        else:
            low = middle
    if len(best.folding.forms) <= SMALL and slowest <= SHORT:
        for plan in islice(faster(graph, target, high), REFINED):
            cost = estimate_network(plan.network)
            if excess(cost, {name: BEYOND * amount for name, amount in budget.items()}):
                break
            if plan.interval < best.interval and not excess(cost, budget):
                best = plan
    return best


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
