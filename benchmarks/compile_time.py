"""How long compiling takes: a residual network of 50 layers of width 256, without simulation."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import nn

import gatewright as gw
from benchmarks.common import Row, at_most

LAYERS = 50
WIDTH = 256
INTERVAL = 256
FORMATS = {"default": {"input": "fixed<8,4> half_up saturate", "weight": "fixed<8,6>", "bias": "fixed<12,8>"}}


class Layer(nn.Module):
    """A linear layer with a shortcut around it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.relu(self.linear(x))


def rows() -> Iterator[Row]:
    """Compile time, and that of printing the SystemVerilog."""
    torch.manual_seed(0)
    example = (torch.randn(2, WIDTH),)
    # The first call compiles the token simulation, once a machine.
    gw.compile(nn.Linear(4, 4), (torch.randn(2, 4),), formats=FORMATS)
    model = nn.Sequential(*(Layer() for _ in range(LAYERS)))
    began = time.perf_counter()
    design = gw.compile(model, example, formats=FORMATS, interval=INTERVAL)
    compiled = time.perf_counter() - began
    began = time.perf_counter()
    _ = design.hardware
    printed = time.perf_counter() - began
    note = f"interval {design.interval}, latency {design.latency} cycles"
    name = f"residual MLP, {LAYERS} x {WIDTH}"
    yield Row(f"{name}: gw.compile", compiled, "s", "measured", at_most(20.0), note=note)
    yield Row(f"{name}: SystemVerilog printed", printed, "s", "measured")
