"""Scheduling: from the integer graph to a sized network that meets an interval, a rate or a budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from gatewright.budget import check_part
from gatewright.diagnostics import GatewrightError, error
from gatewright.goals import check_goals, goal_text
from gatewright.ir.graph import Graph
from gatewright.ir.intervals import IntegerArray
from gatewright.ir.streams.folding import Folding, fastest_interval, fold, serial_interval
from gatewright.ir.streams.lower import lower
from gatewright.ir.streams.network import Network
from gatewright.ir.targets import Target
from gatewright.ir.transforms.arrange import Arranged, arrange
from gatewright.ir.transforms.cast_before_maximum import cast_before_maximum
from gatewright.ir.transforms.fill_concats import fill_concats
from gatewright.ir.transforms.fold_constants import fold_constants
from gatewright.ir.transforms.fuse_maps import fuse_maps
from gatewright.ir.transforms.normalise import normalise
from gatewright.ir.transforms.order_contractions import order_contractions
from gatewright.ir.verifier import verify
from gatewright.ir.views import View
from gatewright.sim.sizing import least_cycles, size_fifos


@dataclass(frozen=True, slots=True)
class Schedule:
    """A network and its cycles: ``interval`` between samples and ``latency`` of one, as simulated by tokens.

    ``graph`` is the integer graph in the form that was lowered. Its inputs and outputs may hold their elements in
    another order than the model's: ``inputs`` and ``outputs`` tell how these are seen in them. ``goal`` is what was
    asked for, in words.
    """

    graph: Graph
    folding: Folding
    network: Network
    interval: int
    latency: int
    inputs: tuple[View, ...] = ()
    outputs: tuple[View, ...] = ()
    goal: str = ""

    def carried(self, codes: Sequence[IntegerArray]) -> list[IntegerArray]:
        """Input codes [samples, ...] of the model in the order in which the ports take them."""
        return [view.carried(each) for view, each in zip(self.inputs, codes, strict=True)]

    def seen(self, codes: Sequence[IntegerArray]) -> list[IntegerArray]:
        """Output codes of the ports as the model's outputs [samples, ...]."""
        return [view.seen(each) for view, each in zip(self.outputs, codes, strict=True)]


def prepared(graph: Graph) -> Arranged:
    """An integer graph in the form that is lowered."""
    current = graph
    for each in (fold_constants, order_contractions):
        current = verify(each(current), "integer", each.__name__)
    arranged = arrange(current)
    current = verify(arranged.graph, "integer", "arrange")
    for each in (cast_before_maximum, fill_concats, normalise, fuse_maps):
        current = verify(each(current), "integer", each.__name__)
    return replace(arranged, graph=current)


def schedule(
    graph: Graph,
    target: Target,
    *,
    interval: int | None = None,
    fps: float | None = None,
    budget: Mapping[str, int] | None = None,
) -> Schedule:
    """Fold ``graph`` and lower it.

    At most one of ``interval`` (cycles), ``fps`` (samples a second at the target's clock) and ``budget``
    (most ``lut``, ``ff``, ``dsp``, ``bram``) may be given; with none of them the design is the smallest: one
    multiplier a layer. Raises GW0703 to GW0709 where the goal cannot be met, with the best that can.
    """
    check_goals(interval, fps, budget)
    arranged = prepared(graph)
    plan = _scheduled(arranged.graph, target, interval, fps, budget)
    check_part(plan.network, target)
    goal = goal_text(target.clock_mhz, interval, fps, budget)
    return replace(plan, inputs=arranged.inputs, outputs=arranged.outputs, goal=goal)


def _scheduled(
    graph: Graph, target: Target, interval: int | None, fps: float | None, budget: Mapping[str, int] | None
) -> Schedule:
    if budget is not None:
        from gatewright.budget import fastest_within

        return fastest_within(graph, target, budget, attempted, faster)
    if fps is not None:
        interval = int(target.clock_mhz * 1e6 // fps)
        if interval < 1:
            raise error(
                "GW0706",
                f"{fps:g} samples a second cannot be met at {target.clock_mhz:g} MHz",
                note=f"{target.clock_mhz:g} MHz / {fps:g} is less than one cycle a sample",
                help=f"the best possible is fps={target.clock_mhz * 1e6 / fastest_interval(graph):g}",
            )
    if interval is None:
        return at_interval(graph, target, serial_interval(graph))
    return _meeting(graph, target, int(interval))


ATTEMPTS = 4
"""How often a design that misses its interval is folded for one that is smaller in proportion, before all are tried."""


def _meeting(graph: Graph, target: Target, interval: int) -> Schedule:
    """The cheapest design found that meets the interval; GW0703 with the best where none does.

    Streams may wait for one another, so that a design takes longer than any of its parts. Then designs for
    smaller intervals are tried, all of them before the interval is refused: what meets a smaller one meets this.
    """
    plan: Schedule | None = at_interval(graph, target, interval)
    best, aim = plan.interval, interval
    for _ in range(ATTEMPTS):
        if plan is None or plan.interval <= interval or aim == 1:
            break
        aim = max(1, min(aim - 1, aim * interval // plan.interval))
        plan = attempted(graph, target, aim)
        best = best if plan is None else min(best, plan.interval)
    if plan is not None and plan.interval <= interval:
        return plan
    for each in chain(faster(graph, target, interval), _slower(graph, target, interval)):
        if each.interval <= interval:
            return each
        best = min(best, each.interval)
    raise error(
        "GW0703",
        f"interval {interval} cannot be met: the streams need {best} cycles",
        note="windows are made at most a line of the image in a cycle",
        help=f"ask for interval={best} or more",
    )


def attempted(graph: Graph, target: Target, interval: int) -> Schedule | None:
    """The design for an interval; None where that is below what some layer allows."""
    try:
        return at_interval(graph, target, interval)
    except GatewrightError as problem:
        if any(each.code != "GW0703" for each in problem.diagnostics):
            raise
        return None


def faster(graph: Graph, target: Target, interval: int) -> Iterator[Schedule]:
    """All designs for less than ``interval``, the slowest first.

    Between the busiest cycles of a design and the interval that it was made for, folding chooses the same.
    """
    plan = attempted(graph, target, interval)
    while plan is not None:
        aim = min(plan.folding.interval, max(least_cycles(each) for each in plan.network.components)) - 1
        plan = attempted(graph, target, aim) if aim >= 1 else None
        if plan is not None:
            yield plan


def _slower(graph: Graph, target: Target, interval: int) -> Iterator[Schedule]:
    """A few designs for somewhat more than ``interval``, which may do better than they were asked for."""
    for more in range(1, ATTEMPTS + 1):
        plan = attempted(graph, target, interval + more)
        if plan is not None:
            yield plan


def at_interval(graph: Graph, target: Target, interval: int) -> Schedule:
    """The cheapest network for ``interval`` cycles between samples; its streams may need a few cycles more."""
    folding = fold(graph, interval)
    network, cycles = size_fifos(lower(graph, folding, target))
    return Schedule(graph, folding, network, cycles.interval, cycles.latency)
