"""The cheapest tiles of a whole graph: layers together, with the width adapters between them.

What a layer costs beside its tile depends on the lanes of the streams that it reads and gives alone. So the graph is
walked once in topological order, and of all partial choices that leave the streams still to be
read with the same lanes the cheapest is kept: an exact search, as long as there are not too many of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gatewright.ir.streams.forms import Tile
from gatewright.ir.types import Value

MOST_STATES = 512
"""So many partial choices are kept; of more the dearest are dropped, and the result may not be the best."""


def adapter_cost(lanes_in: int, lanes_out: int, width: int) -> float:
    """Estimated LUTs of changing the lanes of a stream of ``width`` bits an element."""
    if lanes_in == lanes_out:
        return 0.0
    more, fewer = max(lanes_in, lanes_out), min(lanes_in, lanes_out)
    return 12 + more * width * (1.0 if more % fewer == 0 else 3.0)


@dataclass(frozen=True, slots=True)
class Choice:
    """A tile of a contraction, or the lanes of an input port (no tile): its lanes, and its cost without adapters."""

    lanes_in: int
    lanes_out: int
    cost: float
    tile: Tile | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One value: chosen among ``choices``, or following from the lanes of its ``sources``.

    ``follows`` gives its lanes then, and the lanes in which it takes each source, 0 for as they come.
    """

    value: Value
    sources: tuple[Value, ...] = ()
    choices: tuple[Choice, ...] = ()
    follows: Callable[[Sequence[int]], tuple[int, Sequence[int]]] | None = None


@dataclass(frozen=True, slots=True)
class Solution:
    """The chosen tiles and lanes of ports by value, and what they cost together."""

    chosen: Mapping[Value, Choice]
    cost: float


@dataclass(slots=True)
class _Trail:
    """The choices that lead to a state, the last first."""

    value: Value | None = None
    choice: Choice | None = None
    before: _Trail | None = None

    def collected(self) -> dict[Value, Choice]:
        """All choices by value."""
        found: dict[Value, Choice] = {}
        trail: _Trail | None = self
        while trail is not None:
            if trail.value is not None and trail.choice is not None:
                found[trail.value] = trail.choice
            trail = trail.before
        return found


def cheapest(choices: Iterable[Choice]) -> tuple[Choice, ...]:
    """The cheapest choice for every pair of lanes."""
    found: dict[tuple[int, int], Choice] = {}
    for each in choices:
        key = (each.lanes_in, each.lanes_out)
        if key not in found or each.cost < found[key].cost:
            found[key] = each
    return tuple(found.values())


def cost_of(steps: Sequence[Step], chosen: Mapping[Value, Choice]) -> float:
    """What one choice for every step that has any costs, adapters included."""
    lanes: dict[Value, int] = {}
    total = 0.0
    for step in steps:
        offered = [lanes[source] for source in step.sources]
        if step.follows is None:
            choice = chosen[step.value]
            total += choice.cost
            lanes[step.value], wanted = choice.lanes_out, [choice.lanes_in] * len(offered)
        else:
            lanes[step.value], wanted = step.follows(offered)
        total += _adapters(step, offered, wanted)
    return total


def _adapters(step: Step, offered: Sequence[int], wanted: Sequence[int]) -> float:
    pairs = zip(step.sources, offered, wanted, strict=True)
    return sum(adapter_cost(given, taken, source.width) for source, given, taken in pairs if taken)


@dataclass(slots=True)
class _Walk:
    """The states after some of the steps: for the lanes of all ``live`` values the least cost, and how it came."""

    live: tuple[Value, ...] = ()
    states: dict[tuple[int, ...], tuple[float, _Trail]] = field(
        default_factory=dict[tuple[int, ...], tuple[float, _Trail]]
    )

    def take(self, step: Step, still_read: set[Value]) -> None:
        """Go on by one step; afterwards only the lanes of values that are ``still_read`` matter."""
        places = [self.live.index(source) for source in step.sources]
        every = (*self.live, step.value)
        kept = [place for place, value in enumerate(every) if value in still_read]
        options: dict[tuple[int, ...], list[tuple[int, float, Choice | None]]] = {}
        found: dict[tuple[int, ...], tuple[float, _Trail]] = {}
        for state, (cost, trail) in self.states.items():
            offered = tuple(state[place] for place in places)
            if offered not in options:
                options[offered] = list(_options(step, offered))
            for lanes, more, choice in options[offered]:
                full = (*state, lanes)
                key = tuple(full[place] for place in kept)
                if key not in found or cost + more < found[key][0]:
                    found[key] = (cost + more, trail if choice is None else _Trail(step.value, choice, trail))
        if len(found) > MOST_STATES:
            found = dict(sorted(found.items(), key=lambda item: item[1][0])[:MOST_STATES])
        self.live, self.states = tuple(every[place] for place in kept), found


def _options(step: Step, offered: Sequence[int]) -> Iterator[tuple[int, float, Choice | None]]:
    """For streams that come with these lanes: the lanes that a value can leave with, each at the least cost."""
    if step.follows is not None:
        lanes, wanted = step.follows(offered)
        yield lanes, _adapters(step, offered, wanted), None
        return
    best: dict[int, tuple[float, Choice]] = {}
    for choice in step.choices:
        cost = choice.cost + _adapters(step, offered, [choice.lanes_in] * len(offered))
        if choice.lanes_out not in best or cost < best[choice.lanes_out][0]:
            best[choice.lanes_out] = (cost, choice)
    for lanes, (cost, choice) in best.items():
        yield lanes, cost, choice


def solve(steps: Sequence[Step]) -> Solution:
    """The cheapest choices for all steps, which stand in topological order."""
    last = {source: position for position, step in enumerate(steps) for source in step.sources}
    walk = _Walk(states={(): (0.0, _Trail())})
    for position, step in enumerate(steps):
        readable = (*walk.live, step.value)
        walk.take(step, {value for value in readable if last.get(value, -1) > position})
    cost, trail = min(walk.states.values(), key=lambda pair: pair[0])
    return Solution(trail.collected(), cost)
