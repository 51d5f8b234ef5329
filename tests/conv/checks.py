"""What every convolutional design must hold."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import gatewright as gw
from gatewright.ir.streams.cells import Fifo
from gatewright.ir.streams.lower import UNSIZED
from gatewright.sim.verify import STALLS

FORMATS = {"default": {"input": "fixed<6,3>", "weight": "fixed<5,4>", "bias": "fixed<6,4>"}}


def compiled(model: nn.Module, x: Tensor, interval: int | None = None) -> gw.Design:
    """The design at ``interval``, or at the smallest larger one, doubled as often as it takes."""
    while True:
        try:
            return gw.compile(model, (x[:1],), formats=FORMATS, interval=interval)
        except gw.GatewrightError as problem:
            if interval is None or "cannot be met" not in str(problem):
                raise
            interval *= 2


def check(design: gw.Design, x: Tensor, seed: int = 0) -> None:
    """PyTorch, golden model and hardware agree under all stalls, and the declared cycles are the measured ones."""
    assert all(each.depth < UNSIZED for each in design.schedule.network.components if isinstance(each, Fifo))
    with torch.no_grad():
        found, expected = design.module(x), design(x)
    pairs = zip(_tuple(found), _tuple(expected), strict=True)
    assert all(torch.equal(one.double(), other) for one, other in pairs)
    for stalls in STALLS:
        measured = design.verify(x, stalls=stalls, seed=seed)
        if stalls == "none":
            assert (measured.interval, measured.latency) == (design.interval, design.latency)


def _tuple(value: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)
