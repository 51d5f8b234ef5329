"""Bad input is refused before any launch, with the argument's name and what was expected."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import gatewright as gw
from gatewright.backends.triton.golden import real_tensors
from gatewright.backends.triton.program import Program
from gatewright.diagnostics import GatewrightError
from gatewright.ir.builder import Builder
from gatewright.ir.formats import Fixed
from gatewright.ir.intervals import Interval
from gatewright.ir.types import Type
from gatewright.kernels import device


@pytest.fixture
def program() -> Program:
    """A sum of two inputs."""
    builder = Builder("sum")
    type = Type((4,), Fixed(8, 4), Interval(-128, 127))
    left, right = builder.input("left", type), builder.input("right", type)
    return Program(builder.finish([builder.map(lambda a, b: a + b, left, right, frac=4)], ["total"]))


def codes(where: torch.device, *shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.int8, device=where)


def test_bad_inputs(program: Program, where: torch.device) -> None:
    device.LAUNCHES.clear()
    good = codes(where, 3, 4)
    cases = {
        "GW0502": (good, good.float()),
        "GW0503": (good, torch.empty(3, 4, dtype=torch.int8, device="meta")),
        "GW0505": (good, codes(where, 3, 5)),
    }
    for code, inputs in cases.items():
        with pytest.raises(GatewrightError, match="right") as caught:
            program(*inputs)
        assert caught.value.code == code
    for inputs in ((good,), (good, codes(where, 2, 4)), (good, good[0])):
        with pytest.raises(GatewrightError) as caught:
            program(*inputs)
        assert caught.value.code == "GW0505"
    assert not device.LAUNCHES


def test_no_kernel_runs_on_a_plain_cpu(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "INTERPRET", False)
    good = torch.zeros(3, 4, dtype=torch.int8)
    with pytest.raises(GatewrightError, match="left") as caught:
        program(good, good)
    assert caught.value.code == "GW0503"


def test_an_empty_batch(program: Program, where: torch.device) -> None:
    (found,) = program(codes(where, 0, 4), codes(where, 0, 4))
    assert found.shape == (0, 4)


def test_reals_are_refused_as_on_the_host(where: torch.device) -> None:
    x = torch.randn(3, 4, device=where)
    found = real_tensors(["left", "right"], [x, np.ones((3, 4))], [False, False])
    assert found[0] is x and torch.equal(found[1].cpu(), torch.ones(3, 4, dtype=torch.float64))
    broken = x.clone()
    broken[2, 1] = torch.nan
    assert torch.equal(real_tensors(["right"], [broken], [True])[0].isnan(), broken.isnan())
    for given in (broken, x.to(torch.complex64), x.to_sparse(), object(), None):
        with pytest.raises(GatewrightError, match="right") as caught:
            real_tensors(["left", "right"], [x, given], [False, False])
        assert caught.value.code == "GW0903"


@pytest.mark.parametrize("batch", [-1, "a", None, 1.5])
def test_source_for_no_number_of_samples(batch: object) -> None:
    model = torch.nn.Linear(4, 2).eval()
    design = gw.compile(model, (torch.randn(2, 4),), formats="fixed<8,4>")
    with pytest.raises(GatewrightError, match="`batch`") as caught:
        design.kernels(batch)  # type: ignore[arg-type]
    assert caught.value.code == "GW0505"
    assert "@triton.jit" in design.kernels(0)
