"""Depths of FIFOs and line buffers from the token-level simulation.

A network of these components is a cyclo-static dataflow graph with bounded channels: whether it
deadlocks depends on the capacities alone, not on stalls (Kahn 1974; Bilsen et al. 1996). A buffer's capacity is
its depth. That of a pipeline is not known: all its stages stand still together while a result waits, those that
gaps in the input left empty too, so that it holds anything between one result and one a stage. So a run without
stalls that keeps the interval proves the speed, and one with pipelines of a single stage proves that no pattern of
stalls brings a deadlock.

With unlimited buffers and inputs that come evenly, one sample an interval, nothing ever waits longer than
it must, and the most that a buffer holds is enough for it: a run as fast as possible with
these depths is never slower, because its firings can only come earlier (Wiggers et al. 2007). From there every
buffer is made as small as the interval allows, the largest memories first, for as long as that takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

from gatewright.diagnostics import GatewrightError
from gatewright.ir.streams.cells import Fifo
from gatewright.ir.streams.lower import UNSIZED
from gatewright.ir.streams.network import Channel, Component, Network
from gatewright.ir.streams.window_units import WindowUnit
from gatewright.sim.tokens import TokenResult, TokenRun, simulate_tokens

IN_TRANSIT = 2
"""A deep FIFO holds up to this many beats merely because they pass through it."""
SPARE_BEATS = (0, IN_TRANSIT, 4 * IN_TRANSIT)
"""What is added to every buffer in turn: a full FIFO accepts nothing in the cycle in which it gives."""
INTERVAL_STEPS = 256
"""An interval that no buffers keep is made longer by this part of it."""
SEARCH_WORK = 20_000_000
"""Beats that the search for smaller buffers may simulate: a few seconds. Where one attempt takes more, as in ResNet-50
at its full size, every buffer keeps the depth that evenly spaced samples need."""
FEW_SAMPLES = 5
"""Samples that show whether an attempt keeps the interval; what is chosen is run until it is steady."""
Depths = Mapping[str, int]


def size_fifos(network: Network) -> tuple[Network, TokenResult]:
    """The network with the depths that its interval needs, and its measured cycles.

    FIFOs in which nothing ever waits are left out where the interval stays the same.
    """
    sizable = {each.name: each for each in network.components if _is_sizable(each)}
    if not sizable:
        return network, simulate_tokens(network)
    unlimited = _resized(network, dict.fromkeys(sizable, UNSIZED))
    slowest = max(least_cycles(each) for each in network.components)
    found = _enough(network, unlimited, sizable, slowest)
    if found is None:
        # Something takes longer than its own beats: find out how long.
        slowest = simulate_tokens(unlimited).interval
        while (found := _enough(network, unlimited, sizable, slowest)) is None:
            slowest += -(-slowest // INTERVAL_STEPS)
    return _Search(network, sizable, found).run()


def least_cycles(component: Component) -> int:
    """The cycles that a component takes for a sample when it never has to wait."""
    beats = max(channel.layout.beats for channel in (*component.inputs, *component.outputs))
    timing = component.timing
    if timing.kind == "window":
        loops = timing.parameters[0]
        return prod(timing.parameters[9 : 9 + loops])
    if timing.kind != "pipeline":
        return beats
    runs = [timing.parameters[k : k + 4] for k in range(1, len(timing.parameters), 4)]
    produced = sum(count for count, _, _, produces in runs if produces)
    return sum(run[0] for run in runs) * component.outputs[0].layout.beats // max(produced, 1)


def _enough(network: Network, unlimited: Network, sizable: Mapping[str, Component], interval: int) -> _Sized | None:
    """Depths with which the network keeps ``interval``: what the buffers hold when samples come that often."""
    depths = {name: max(_least(each), 2) for name, each in sizable.items()}
    for shallow in (False, True):
        held = _occupancy(TokenRun(unlimited, pace=interval, shallow=shallow), interval)
        depths = {name: max(depth, held[name]) for name, depth in depths.items()}
        # First without the FIFOs in which nothing waits.
        idle = {name: 0 for name, each in sizable.items() if depths[name] <= IN_TRANSIT and isinstance(each, Fifo)}
        more = [{name: depth + spare for name, depth in depths.items()} for spare in SPARE_BEATS]
        for tried in ([{**depths, **idle}] if idle else []) + more:
            found = _kept(tried, TokenRun(_resized(network, tried)), interval)
            if found is not None and _never_stops(found):
                return found
    return None


def _occupancy(run: TokenRun, interval: int) -> Mapping[str, int]:
    """What the buffers hold at most while as many samples pass as are under way at once, and some more."""
    samples = 4
    while True:
        even = run.until(samples)
        under_way = -(-even.latency // interval)
        if samples >= under_way + 3:
            return even.occupancy
        samples = under_way + 3


def _never_stops(found: _Sized) -> bool:
    """Whether no pattern of stalls brings a deadlock."""
    try:
        TokenRun(found.run.network, shallow=True).until(max(FEW_SAMPLES, found.run.samples))
    except GatewrightError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Sized:
    """Depths that were tried (0: the FIFO is left out), the run of their network so far, and its cycles."""

    depths: Depths
    run: TokenRun
    cycles: TokenResult


def _kept(depths: Depths, run: TokenRun, interval: int, samples: int | None = None) -> _Sized | None:
    """The depths where their run keeps the interval for so many samples, by default steadily; else None."""
    try:
        cycles = run.until_steady() if samples is None else run.until(samples)
    except GatewrightError:
        return None  # a deadlock: too small
    return _Sized(depths, run, cycles) if cycles.interval <= interval else None


class _Search:
    """Makes buffers smaller one by one while the interval stays, in networks small enough to try them.

    Deadlocks under stalls are looked for at the end; where there is one, the search is made again and looks each time.
    """

    def __init__(self, network: Network, sizable: Mapping[str, Component], found: _Sized) -> None:
        self.network = network
        self.sizable = sizable
        self.interval = found.cycles.interval
        self.best = found
        self.is_strict = False
        self.work = 0
        self.attempt_work = FEW_SAMPLES * found.run.work // found.run.samples

    def run(self) -> tuple[Network, TokenResult]:
        """The network with the smallest depths found, and its measured cycles."""
        start = self.best
        for self.is_strict in (False, True):
            self.best, self.work = start, 0
            self._try(self._all_least())
            for name in self._largest_first():
                self._shrink(name)
            cycles = self.best.run.until_steady()
            if cycles.interval <= self.interval and _never_stops(self.best):
                return self.best.run.network, cycles
        return start.run.network, start.cycles

    def _all_least(self) -> dict[str, int]:
        return {name: _least(each) for name, each in self.sizable.items()}

    def _largest_first(self) -> list[str]:
        def bits(name: str) -> int:
            return self.best.depths[name] * self.sizable[name].inputs[0].width

        return sorted(self.sizable, key=bits, reverse=True)

    @property
    def _may_try(self) -> bool:
        return self.work + self.attempt_work <= SEARCH_WORK

    def _try(self, changes: Mapping[str, int]) -> bool:
        """Adopt changed depths where they keep the interval; nothing once the work is used up."""
        if not self._may_try or all(self.best.depths[name] == depth for name, depth in changes.items()):
            return False
        depths = {**self.best.depths, **changes}
        run = TokenRun(_resized(self.network, depths))
        found = _kept(depths, run, self.interval, FEW_SAMPLES)
        self.work += run.work
        if found is None or (self.is_strict and not _never_stops(found)):
            return False
        self.best = found
        return True

    def _shrink(self, name: str) -> None:
        """Bisect the depth of one buffer."""
        high = self.best.depths[name]
        least = _least(self.sizable[name])
        if high <= least or self._try({name: least}):
            return
        low = least
        while high - low > max(1, high // 64) and self._may_try:
            middle = (low + high) // 2
            if self._try({name: middle}):
                high = middle
            else:
                low = middle


def _is_sizable(component: Component) -> bool:
    return isinstance(component, WindowUnit) or (isinstance(component, Fifo) and component.depth == UNSIZED)


def _least(component: Component) -> int:
    """The least depth that can work; 0 stands for no FIFO."""
    return component.span if isinstance(component, WindowUnit) else 0


def _resized(network: Network, depths: Depths) -> Network:
    """The network with these depths by component; FIFOs of depth 0 are left out."""
    renamed: dict[str, str] = {}
    components: list[Component] = []

    def renaming(channel: Channel) -> Channel:
        # A reader may see the stream in rows of its own: only the name changes.
        return replace(channel, name=renamed.get(channel.name, channel.name))

    for each in network.components:
        inputs = tuple(renaming(channel) for channel in each.inputs)
        updated = replace(each, inputs=inputs)
        depth = depths.get(each.name)
        if isinstance(updated, Fifo) and depth is not None:
            if depth == 0:
                renamed[each.outputs[0].name] = inputs[0].name
                continue
            updated = replace(updated, depth=depth)
        elif isinstance(updated, WindowUnit) and depth is not None:
            updated = replace(updated, depth=depth)
        components.append(updated)
    return replace(network, components=tuple(components))
