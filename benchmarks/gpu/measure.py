"""Timing and checking shared by the kernels' ``benchmark`` functions.

A measurement replays a CUDA graph of launches that rotate among input sets larger together than the L2
cache, so that every launch reads and writes device memory and no launch gap is counted; library calls are
timed in the same way. A row whose output is wrong is marked so, and fails the run.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

L2_MULTIPLE = 5 * 60 * 2**20  # bytes that a rotation must exceed


UNITS = {"GB/s": 1e-6, "TFLOP/s": 1e-9, "M/s": 1e-3}
"""What a row's ``work`` in a millisecond counts in its unit."""


@dataclass(slots=True)
class Row:
    """One line of the table. ``work`` is bytes (unit GB/s), operations (TFLOP/s) or samples (M/s) a call."""

    group: str
    what: str
    variant: str
    milliseconds: float
    work: float
    unit: str
    goal: str = ""
    met: bool | None = None
    correct: bool = True
    note: str = ""
    share: float = 0.0  # of the copy or read bandwidth; 0 where that does not bound

    @property
    def rate(self) -> float:
        """``work`` a second, in the row's unit."""
        return self.work / self.milliseconds * UNITS[self.unit]

    def record(self) -> dict[str, Any]:
        """The row for JSON."""
        return {**asdict(self), "rate": round(self.rate, 1)}


@dataclass(frozen=True, slots=True)
class Context:
    """The bandwidths (GB/s) that this run's rows are held against, and whether to time ``torch.compile``."""

    copy: float
    read: float
    compiled: bool

    def bandwidth_row(
        self,
        group: str,
        what: str,
        variant: str,
        taken: float,
        work: float,
        goal: float | None,
        correct: bool = True,
    ) -> Row:
        """A row bound by bytes read and written; ``goal`` is a share of the copy bandwidth."""
        share = work / taken * 1e-6 / self.copy
        text, met = ("", None) if goal is None else (f"{goal:.0%} of copy", share >= goal)
        return Row(group, what, variant, taken, work, "GB/s", text, met, correct, f"{share:.1%} of copy", share)

    def read_row(
        self,
        group: str,
        what: str,
        variant: str,
        taken: float,
        work: float,
        correct: bool = True,
        note: str = "",
    ) -> Row:
        """A row bound by bytes read."""
        share = work / taken * 1e-6 / self.read
        text = f"{share:.1%} of read" + (f", {note}" if note else "")
        return Row(group, what, variant, taken, work, "GB/s", "", None, correct, text, share)

    def compute_row(
        self, group: str, what: str, variant: str, taken: float, work: float, goal: str = "", met: bool | None = None,
        correct: bool = True, note: str = "",
    ) -> Row:  # fmt: skip
        """A row bound by operations."""
        return Row(group, what, variant, taken, work, "TFLOP/s", goal, met, correct, note)


def rotation(sets: Callable[[], Any], size: int, limit: int = 64) -> list[Any]:
    """Input sets of ``size`` bytes each, enough of them to leave nothing in the L2 cache."""
    count = min(limit, max(2, -(-L2_MULTIPLE // max(size, 1))))
    return [sets() for _ in range(count)]


def compiled(call: Callable[..., Any], exact_division: bool = False) -> Callable[..., Any]:
    """``torch.compile`` for these inputs alone: no sizes or numbers left open by the rows before.

    By itself it divides by an approximate reciprocal; with ``exact_division`` like eager PyTorch.
    """
    torch.compiler.reset()
    rounding = [each for each in torch._inductor.list_options() if each.endswith("division_rounding")]
    return torch.compile(call, dynamic=False, options=dict.fromkeys(rounding, exact_division))


def milliseconds(call: Callable[..., Any], sets: Sequence[Any], target: float = 4.0, repeat: int = 7) -> float:
    """The median time of one ``call(*set)``, over graph replays of at least ``target`` ms."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for each in sets:
            call(*each)
        torch.cuda.synchronize()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for each in sets[:2]:
            call(*each)
        end.record()
        torch.cuda.synchronize()
        estimate = max(begin.elapsed_time(end) / 2, 1e-3)
        launches = len(sets) * max(1, min(64, round(target / estimate / len(sets))))
        graph = torch.cuda.CUDAGraph()
        kept: list[Any] = []  # outputs stay alive for one rotation, so that writes rotate too
        with torch.cuda.graph(graph, stream=stream):
            for each in itertools.islice(itertools.cycle(sets), launches):
                kept.append(call(*each))
                del kept[: -len(sets)]
        for _ in range(2):
            graph.replay()
        times: list[float] = []
        for _ in range(repeat):
            begin.record()
            graph.replay()
            end.record()
            torch.cuda.synchronize()
            times.append(begin.elapsed_time(end) / launches)
    torch.cuda.current_stream().wait_stream(stream)
    del graph, kept
    return sorted(times)[repeat // 2]


def relative_error(found: Tensor, expected: Tensor) -> float:
    """||found - expected|| / ||expected|| in float64; NaN or infinity gives infinity."""
    expected = expected.double()
    difference = torch.linalg.vector_norm(found.double() - expected)
    ratio = float(difference / torch.linalg.vector_norm(expected).clamp(min=1e-300))
    return ratio if ratio == ratio else float("inf")


def within(found: Tensor, expected: Tensor, relative: float, by_row: bool = False) -> bool:
    """Equality to rounding: ``relative_error`` below ``relative``, and no single element far off; False of nothing.

    An element may differ by 16 times ``relative`` of itself and of the expected values' root mean square; with
    ``by_row`` by 8 times, of itself and of its own row's (the last axis), where rows differ in size as those of causal
    attention do: of the 29 million elements of an emulation of its arithmetic, none came to a half of that.
    """
    if not expected.numel() or found.shape != expected.shape or not relative_error(found, expected) < relative:
        return False
    expected = expected.double()
    squares = expected.square()
    typical = (squares.mean(-1, keepdim=True) if by_row else squares.mean()).sqrt()
    limit = (8 if by_row else 16) * relative * (expected.abs() + typical)
    return bool(((found.double() - expected).abs() <= limit).all())


def same_values(found: Tensor, expected: Tensor) -> bool:
    """Equality in which a NaN equals a NaN and a zero's sign counts."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    if not found.is_floating_point():
        return bool(torch.equal(found, expected))
    integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[found.element_size()]
    equal = found.view(integer) == expected.view(integer)
    return bool((equal | (found.isnan() & expected.isnan())).all())


def copy_rate(bytes_moved: int = 2**31) -> tuple[float, float]:
    """(copy, read) bandwidth in GB/s: a device copy's bytes read and written, and a sum's bytes read.

    The copy is timed outside a graph, whose copy nodes take a slower engine.
    """
    half = bytes_moved // 2
    sources = [torch.empty(half, dtype=torch.uint8, device="cuda").random_() for _ in range(2)]
    target = torch.empty_like(sources[0])
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    times: list[float] = []
    for _ in range(9):
        begin.record()
        for source in sources:
            target.copy_(source)
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / 2)
    read = milliseconds(torch.sum, [(each.view(torch.float32),) for each in sources])
    return bytes_moved / sorted(times)[4] * 1e-6, half / read * 1e-6
