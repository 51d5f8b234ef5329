"""Random convolutional networks: hardware, golden model and PyTorch agree, and the declared cycles are the measured."""

from __future__ import annotations

import random

import pytest
import torch

from tests.conv.checks import check, compiled
from tests.conv.networks import RandomNetwork

FAST = 12
ALL = 160


def run(seed: int) -> None:
    model = RandomNetwork(seed).eval()
    x = torch.randn(4, *model.shape)
    design = compiled(model, x)
    factor = random.Random(seed).choice((1, 2, 5, 10, 50))
    if factor > 1:
        design = compiled(model, x, max(design.interval // factor, 1))
    check(design, x, seed)


@pytest.mark.parametrize("seed", range(FAST))
def test_a_random_network_equals_its_hardware(seed: int) -> None:
    run(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(FAST, ALL))
def test_a_random_network_equals_its_hardware_slowly(seed: int) -> None:
    run(seed)
