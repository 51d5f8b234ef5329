"""Arguments of the wrong type, and inputs that no hardware can take: an error of our own, never a traceback."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gatewright as gw

FORMATS = "fixed<8,4>"
EXAMPLE = (torch.zeros(2, 4),)


def failure(call: Callable[[], Any]) -> str:
    """The message of a call that must fail."""
    with pytest.raises(gw.GatewrightError) as caught:
        call()
    return str(caught.value)


def compiled(**options: Any) -> gw.Design:
    """A linear layer, compiled with ``options``."""
    return gw.compile(nn.Linear(4, 3), EXAMPLE, **{"formats": FORMATS, **options})


@cache
def design() -> gw.Design:
    """A design to call, and a pair of inputs for it."""
    return compiled()


class Sum(nn.Module):
    """Two inputs."""

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return left + right


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"interval": 2.5}, "GW0707"),
        ({"interval": "12"}, "GW0707"),
        ({"interval": True}, "GW0707"),
        ({"fps": math.nan}, "GW0705"),
        ({"fps": math.inf}, "GW0705"),
        ({"fps": "100"}, "GW0705"),
        ({"budget": "lut=5"}, "GW0708"),
        ({"budget": {"lut": None}}, "GW0708"),
        ({"budget": {"lut": math.nan}}, "GW0708"),
        ({"budget": {3: 4}}, "GW0708"),
        ({"target": 3}, "GW0701"),
        ({"formats": 3}, "GW0224"),
        ({"formats": b"fixed<8,4>"}, "GW0224"),
        ({"formats": ["fixed<8,4>"]}, "GW0224"),
        ({"formats": "fixed<8,auto>", "calibration": 3}, "GW0230"),
        ({"formats": "fixed<8,auto>", "calibration": "data"}, "GW0230"),
        ({"formats": "fixed<8,auto>", "calibration": ["data"]}, "GW0230"),
        ({"formats": "fixed<8,auto>", "calibration": [torch.zeros(0, 4)]}, "GW0230"),
        ({"formats": "fixed<8,auto>", "calibration": [torch.zeros(2, 4, dtype=torch.complex64)]}, "GW0230"),
    ],
)
def test_compile_refuses(options: dict[str, Any], code: str) -> None:
    message = failure(lambda: compiled(**options))
    assert code in message
    assert "= help:" in message


def test_interval_of_a_numpy_integer() -> None:
    assert compiled(interval=np.int64(4)).interval == 4


@pytest.mark.parametrize("clock", [math.nan, math.inf, "100", -1])
def test_clock(clock: Any) -> None:
    assert "GW0702" in failure(lambda: gw.Target("xcup", clock))


@pytest.mark.parametrize(
    ("example", "words"),
    [
        (torch.zeros(1, 0), "no elements"),
        (torch.zeros(1, 4, dtype=torch.complex64), "complex"),
        (torch.zeros(1, 4).to_sparse(), "sparse"),
    ],
)
def test_example(example: torch.Tensor, words: str) -> None:
    message = failure(lambda: gw.compile(nn.ReLU(), (example,), FORMATS))
    assert "GW0103" in message
    assert words in message


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("hello", "GW0903"),
        (None, "GW0903"),
        (torch.zeros(2, 4, dtype=torch.complex64), "GW0903"),
        (np.zeros((2, 4), np.complex64), "GW0903"),
        (torch.tensor([[0.0, 1.0, math.nan, 2.0]]), "GW0903"),
        (torch.zeros(4), "GW0902"),
    ],
)
def test_inputs(value: Any, code: str) -> None:
    assert code in failure(lambda: design()(value))


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 4, 1)])
def test_kernels_refuse_wrong_shapes_as_the_host_does(shape: tuple[int, ...]) -> None:
    message = failure(lambda: design()(torch.zeros(shape)))
    assert "GW0902" in message
    assert f"has shape {list(shape)}" in message
    assert failure(lambda: design().program(torch.zeros(shape))) == message


def test_inputs_of_different_numbers_of_samples() -> None:
    both = gw.compile(Sum(), (torch.zeros(1, 3), torch.zeros(1, 3)), FORMATS)
    given = torch.zeros(3, 3), torch.zeros(4, 3)
    message = failure(lambda: both(*given))
    assert "left has 3, right has 4" in message
    assert failure(lambda: both.program(*given)) == message


def test_infinite_inputs_saturate() -> None:
    infinite = torch.full((1, 4), math.inf)
    assert torch.equal(design()(infinite), design()(torch.full((1, 4), 1e9)))


@pytest.mark.parametrize(
    ("options", "code"), [({"stalls": ["none"]}, "GW0420"), ({"stalls": None}, "GW0420"), ({"seed": 1.5}, "GW0420")]
)
def test_simulation_options(options: dict[str, Any], code: str) -> None:
    assert code in failure(lambda: design().verify(torch.zeros(1, 4), **options))


def test_no_samples() -> None:
    assert "GW0423" in failure(lambda: design().verify(torch.zeros(0, 4)))
    assert design()(torch.zeros(0, 4)).shape == (0, 3)


class Branching(nn.Module):
    """Chooses by its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


def test_an_error_is_all_that_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    assert "GW0102" in failure(lambda: gw.compile(Branching(), EXAMPLE, FORMATS))
    assert capfd.readouterr() == ("", "")
