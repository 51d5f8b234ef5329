"""The cast in PyTorch equals the exact encoding in every mode; its gradient goes straight through."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

import gatewright
from gatewright.backends.torch.cast import cast, cast_operator, cast_values
from gatewright.ir.formats import DETERMINISTIC_ROUNDINGS, CastSpec, Fixed, Overflow, Rounding, parse_cast, parse_format
from gatewright.numbers import format as number_format

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
OVERFLOWS = (Overflow.SATURATE, Overflow.SATURATE_SYMMETRIC, Overflow.SATURATE_ZERO, Overflow.WRAP)
FORMATS = (
    Fixed(8, 4), Fixed(1, 0), Fixed(4, -2), Fixed(3, 9), Fixed(8, 4, signed=False), Fixed(22, 10),
    Fixed(23, 12), Fixed(24, 20), Fixed(32, 16), Fixed(5, -3, signed=False),
)  # fmt: skip


def reals(format: Fixed, dtype: torch.dtype) -> torch.Tensor:
    """Codes, ties, their neighbours in floating point, and values far outside."""
    low, high = format.code_interval()
    generator = np.random.default_rng(3)
    codes = np.concatenate([
        generator.integers(2 * low - 9, 2 * high + 9, size=3000) / 2.0,
        generator.integers(8 * low - 9, 8 * high + 9, size=1000) / 8.0,
        [low, high, low - 0.5, high + 0.5, 0.5, -0.5, 1.5, -1.5, 0.25, 1e-30, -1e-30, 3.0 * high, 3.0 * low],
        2.0 ** np.arange(-30, 60), -(2.0 ** np.arange(-30, 60)),
    ])  # fmt: skip
    values = torch.from_numpy(codes * 2.0**-format.fraction_bits).to(dtype)
    infinity = torch.tensor(float("inf"), dtype=dtype)
    return torch.cat([values, torch.nextafter(values, infinity), torch.nextafter(values, -infinity)])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_equals_the_exact_encoding(format: Fixed, dtype: torch.dtype, device: str) -> None:
    values = reals(format, dtype)
    for rounding in DETERMINISTIC_ROUNDINGS:
        for overflow in OVERFLOWS:
            spec = CastSpec(format, rounding, overflow)
            found = cast(values.to(device), str(spec)).cpu().double().numpy()
            expected = format.decode(format.encode(values.double().numpy(), rounding, overflow))
            np.testing.assert_array_equal(found, expected, err_msg=str(spec))


@pytest.mark.parametrize("name", ["e4m3", "e2m1 toward_zero", "bfloat16", "mxint8", "mxfp4", "nvfp4", "log<5>"])
def test_other_formats_equal_the_number_formats(name: str) -> None:
    values = torch.randn(6, 64, generator=torch.Generator().manual_seed(0)) * 3
    assert torch.equal(cast(values, name), number_format(name).quantize(values))
    values.requires_grad_()
    cast(values, name).sum().backward()
    assert values.grad is not None
    assert values.grad.mean() > 0.5


@pytest.mark.parametrize("overflow", OVERFLOWS)
@pytest.mark.parametrize("name", ["fixed<8,7>", "fixed<30,4>", "ufixed<5,-2>", "fixed<60,20>"])
def test_infinities_are_cast_as_they_are_encoded(name: str, overflow: Overflow) -> None:
    format = parse_format(name)
    assert isinstance(format, Fixed)
    values = torch.tensor([float("inf"), float("-inf"), 3e38, -3e38, 1.0])
    expected = format.decode(format.encode(values.double().numpy(), overflow=overflow))
    for given in (values, values.double(), values.clone().requires_grad_()):
        found = cast(given, f"{name} {overflow}").detach().double().numpy()
        np.testing.assert_array_equal(found, expected)


def test_half_up_just_below_a_half() -> None:
    below = torch.nextafter(torch.tensor(0.5), torch.tensor(0.0))
    assert cast_values(below[None], parse_cast("fixed<8,0> half_up")).item() == 0.0
    assert cast_values(-below[None], parse_cast("fixed<8,0> half_down")).item() == 0.0


def test_result_is_float32_where_that_is_exact() -> None:
    value = torch.tensor([1.3])
    assert cast(value.double(), "fixed<8,4>").dtype == torch.float32
    assert cast(value.half(), "fixed<8,4>").dtype == torch.float32
    assert cast(value, "fixed<32,16>").dtype == torch.float64


def test_nan_stays_visible() -> None:
    assert torch.isnan(cast(torch.tensor([float("nan")]), "fixed<8,4>")).all()


def test_stochastic_rounding_is_unbiased() -> None:
    torch.manual_seed(0)
    found = cast_values(torch.full((20000,), 0.3), CastSpec(Fixed(8, 0), Rounding.STOCHASTIC))
    assert set(found.unique().tolist()) == {0.0, 1.0}
    assert abs(found.mean().item() - 0.3) < 0.02


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("fixed<4,1>", [0.0, 1.0, 1.0, 1.0, 0.0]),
        ("ufixed<4,1>", [0.0, 0.0, 1.0, 1.0, 1.0]),
        ("fixed<4,1> saturate_zero", [0.0, 1.0, 1.0, 1.0, 0.0]),
        ("fixed<4,1> wrap", [1.0, 1.0, 1.0, 1.0, 1.0]),
        ("fixed<4,1> plain", [1.0, 1.0, 1.0, 1.0, 1.0]),
        ("e2m1", [0.0, 1.0, 1.0, 1.0, 1.0]),
        ("e2m1 plain", [1.0, 1.0, 1.0, 1.0, 1.0]),
        ("block<e2m1,e1m0,32>", [0.0, 1.0, 1.0, 1.0, 1.0]),
        ("block<e2m1,e1m0,32> plain", [1.0, 1.0, 1.0, 1.0, 1.0]),
        ("ternary<mean>", [0.0, 0.0, 1.0, 0.0, 0.0]),
        ("ternary<mean> plain", [1.0, 1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_gradient_passes_where_nothing_was_clipped(spec: str, expected: list[float]) -> None:
    value = torch.tensor([-9.0, -3.3, 0.1, 3.6, 5.0], requires_grad=True)
    cast(value, spec).sum().backward()
    assert value.grad is not None
    assert value.grad.tolist() == expected


def test_operator_is_well_formed() -> None:
    value = torch.randn(3, 4, requires_grad=True)
    torch.library.opcheck(cast_operator, (value, "fixed<8,4> half_even saturate"))


@pytest.mark.parametrize(
    "name",
    [
        "fixed<8,4>", "fixed<40,4>", "e4m3", "log<5>", "mxint8<4>", "nvfp4<4>", "block<e2m1,e8m0,5>", "ternary<mean>",
        "binary<channel>", "e4m3 stochastic",
    ],
)  # fmt: skip
def test_results_lie_in_memory_as_torch_compile_is_told(name: str) -> None:
    for order in itertools.permutations(range(4)):
        value = torch.randn(3, 4, 4, 8).permute(order)
        for given in (value, value[:, :, ::2], value.expand(2, *value.shape)[0]):
            for axis in (-1, -3):
                found = cast_operator(given, name, axis)
                assert found.stride() == torch.empty_like(given).stride(), (order, axis)


def test_compiled_modules_take_values_in_any_order() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(8, 16, (1, 3), (2, 2), (0, 1), groups=4),
        torch.nn.Conv2d(16, 4, 1, (1, 2)),
        torch.nn.ConvTranspose2d(4, 3, 1),
        torch.nn.Flatten(),
    )
    x = torch.randn(4, 8, 3, 3)
    formats = {
        "default": {"input": "e2m3", "weight": "e2m1", "bias": "log<4>"},
        "name": {
            "0": {"weight": "mxint3<2>", "accumulator": "fixed<20,8> floor", "output": "e3m2"},
            "1": {
                "input": "nvfp4<8> half_up",
                "weight": "block<e4m3<ieee>,bfloat16,8>",
                "output": "fixed<6,3> half_down wrap",
            },
            "2": {"bias": "binary01", "output": "binary01"},
        },
    }
    module = gatewright.quantize(model, (x,), formats)
    expected = module(x)
    for given in (x, x.to(memory_format=torch.channels_last)):
        found = torch.compile(module, backend="aot_eager", fullgraph=True)(given)
        assert torch.equal(found, expected)
    torch._dynamo.reset()
