"""Random convolutional networks: hardware, golden model and PyTorch agree, and the declared cycles are the measured."""

from __future__ import annotations

import random

import pytest
import torch
from networks import RandomNetwork

import gatewright as gw
from gatewright.sim.verify import STALLS

FAST = 12
ALL = 160


def check(seed: int) -> None:
    model = RandomNetwork(seed).eval()
    x = torch.randn(4, *model.shape)
    chooser = random.Random(seed)
    formats = {"default": {"input": "fixed<6,3>", "weight": "fixed<5,4>", "bias": "fixed<6,4>", "output": None}}
    formats["default"].pop("output")
    slowest = gw.compile(model, (x[:1],), formats=formats)
    wanted = max(int(slowest.interval * chooser.choice((1, 0.5, 0.2, 0.1, 0.02))), 1)
    design = slowest
    while wanted < slowest.interval:
        try:
            design = gw.compile(model, (x[:1],), formats=formats, interval=wanted)
            break
        except gw.GatewrightError:
            wanted *= 2
    with torch.no_grad():
        expected = design(x)
        assert torch.equal(design.module(x).double(), expected)
    for stalls in STALLS:
        measured = design.verify(x, stalls=stalls, seed=seed)
        if stalls == "none":
            assert measured.interval == design.interval
            assert measured.latency == design.latency


@pytest.mark.parametrize("seed", range(FAST))
def test_a_random_network_equals_its_hardware(seed: int) -> None:
    check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(FAST, ALL))
def test_a_random_network_equals_its_hardware_slowly(seed: int) -> None:
    check(seed)
