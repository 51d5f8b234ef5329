"""FIFO depths from the token-level simulation.

A network of these components is a cyclo-static dataflow graph with bounded channels: whether it
deadlocks depends on the capacities alone, not on stalls (Kahn 1974; Bilsen et al. 1996). So one
run without stalls that keeps the interval proves the depths for every pattern of stalls.
"""

from __future__ import annotations

from dataclasses import replace

from gatewright.diagnostics import GatewrightError
from gatewright.ir.streams.cells import Fifo
from gatewright.ir.streams.lower import UNSIZED
from gatewright.ir.streams.network import Channel, Component, Network
from gatewright.sim.tokens import TokenResult, simulate_tokens

IN_TRANSIT = 2
"""A deep FIFO holds up to this many beats merely because they pass through it."""


def size_fifos(network: Network) -> tuple[Network, TokenResult]:
    """The network with the depths that its interval needs, and its measured cycles.

    FIFOs in which nothing ever waits are left out where the interval stays the same.
    """
    free = simulate_tokens(network)
    depths = {
        each.name: max(free.occupancy[each.name], 2)
        for each in network.components
        if isinstance(each, Fifo) and each.depth == UNSIZED
    }
    if not depths:
        return network, free
    idle = {name for name in depths if free.occupancy[name] <= IN_TRANSIT}
    lean = _resized(network, {name: depth for name, depth in depths.items() if name not in idle}, idle)
    try:
        measured = simulate_tokens(lean)
        if measured.interval <= free.interval:
            return lean, measured
    except GatewrightError:
        pass  # a deadlock: the idle FIFOs are needed after all
    sized = _resized(network, depths, set())
    return sized, simulate_tokens(sized)


def _resized(network: Network, depths: dict[str, int], removed: set[str]) -> Network:
    renamed: dict[str, Channel] = {}
    components: list[Component] = []
    for each in network.components:
        inputs = tuple(renamed.get(channel.name, channel) for channel in each.inputs)
        if each.name in removed:
            renamed[each.outputs[0].name] = inputs[0]
            continue
        updated = replace(each, inputs=inputs)
        if isinstance(updated, Fifo) and each.name in depths:
            updated = replace(updated, depth=depths[each.name])
        components.append(updated)
    return replace(network, components=tuple(components))
