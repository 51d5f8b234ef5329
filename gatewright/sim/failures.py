"""Turns a simulation that stopped early into an error that says where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gatewright.diagnostics import GatewrightError, error
from gatewright.sim.ports import StreamPort, Tap


@dataclass(frozen=True, slots=True)
class StreamState:
    """A stream when the simulation stopped: tvalid, tready, and the transfers so far."""

    stream: StreamPort | Tap
    valid: bool
    ready: bool
    transfers: int

    @property
    def position(self) -> str:
        """The sample and beat that would have come next."""
        sample, beat = divmod(self.transfers, self.stream.beats)
        return f"sample {sample}, beat {beat}"


def failure(
    status: str, top: str, cycle: int, culprit: int, states: Sequence[StreamState], samples: int
) -> GatewrightError:
    """The error for the driver's ``status`` in ``cycle``; ``culprit`` is the stream at fault, if one is."""
    if status in ("deadlock", "max_cycles"):
        return _timeout(status, top, cycle, states, samples)
    state = states[culprit]
    name = state.stream.name
    if status == "tlast":
        return error(
            "GW0409",
            f"output `{name}` of `{top}`: TLAST is wrong in cycle {cycle}, one beat before {state.position}",
            note=f"a sample has {state.stream.beats} beats",
        )
    where = f"in cycle {cycle} ({state.position})"
    if status == "unstable":
        return error("GW0410", f"output `{name}` of `{top}` changed while it waited for tready, {where}")
    return error("GW0411", f"output `{name}` of `{top}` offered a word after the last sample, {where}")


def _timeout(status: str, top: str, cycle: int, states: Sequence[StreamState], samples: int) -> GatewrightError:
    stuck: list[str] = []
    notes: list[str] = []
    for state in states:
        stream, total = state.stream, samples * state.stream.beats
        kind = stream.direction if isinstance(stream, StreamPort) else "tap"
        if isinstance(stream, StreamPort) and state.transfers < total:
            stuck.append(stream.name)
        notes.append(
            f"{kind} {stream.name}: tvalid={state.valid:d} tready={state.ready:d}, "
            f"{state.transfers} of {total} transfers, next {state.position}"
        )
    what, advice = (
        ("nothing moves any more", "a FIFO on one side of a fork and join may be too shallow")
        if status == "deadlock"
        else ("max_cycles has passed", "raise max_cycles if the design is only slow")
    )
    message = f"simulation of `{top}` stopped in cycle {cycle}: {what}; unfinished: {', '.join(stuck)}"
    return error("GW0408", message, note=notes, help=advice)
