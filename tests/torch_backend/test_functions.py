"""Nonlinear functions in the printed module: the hardware's values, the real function's gradient."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

import gatewright
from gatewright.backends.torch import runtime as gw
from gatewright.backends.torch.build import build_module, with_weights
from gatewright.backends.torch.functions import function_operator
from gatewright.frontend.importer import import_model
from gatewright.frontend.quantise import quantise
from gatewright.ir.formats import ScalarFormat, parse_format
from gatewright.ir.graph import Graph
from gatewright.ir.transforms.legalise import legalise
from gatewright.sim.golden import evaluate


class Activated(nn.Module):
    """A layer and a function of its result."""

    def __init__(self, activation: nn.Module, scale: float) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 6)
        self.activation = activation
        with torch.no_grad():
            self.layer.weight.mul_(scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(self.layer(x))


class Exact(Activated):
    """The same with its own casts, the function on the exact sum."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = gw.cast(self.layer.weight, "fixed<8,6>")
        total = torch.nn.functional.linear(gw.cast(x, "fixed<8,4>"), weight, gw.cast(self.layer.bias, "fixed<8,6>"))
        return gw.cast(self.activation(total), "fixed<12,9>")


def assert_equal(graph: Graph, module: nn.Module) -> None:
    integers = legalise(graph).graph
    generator = np.random.default_rng(0)
    codes = generator.integers(*integers.inputs[0].format.code_interval(), size=(300, 4), endpoint=True)  # type: ignore[attr-defined]
    expected = integers.outputs[0].format.decode(evaluate(integers, [codes])[0])  # type: ignore[attr-defined]
    inputs = torch.from_numpy(integers.inputs[0].format.decode(codes)).float()  # type: ignore[attr-defined]
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        module.to(device)
        with torch.no_grad():
            np.testing.assert_array_equal(module(inputs.to(device)).cpu().double().numpy(), expected)
        found = module(inputs.to(device)).detach().cpu().double().numpy()
        np.testing.assert_array_equal(found, expected)
    module.cpu()


@pytest.mark.parametrize("width", [6, 12, 14, 18])
@pytest.mark.parametrize("activation", [nn.GELU(), nn.Sigmoid(), nn.Hardswish()], ids=lambda each: type(each).__name__)
def test_trained_weights_never_change_the_function(activation: nn.Module, width: int) -> None:
    torch.manual_seed(3)
    rules = {
        "default": {"input": f"fixed<{width},{width - 4}>", "weight": "fixed<8,6>", "bias": "fixed<8,6>"},
        "name": {"x": {"input": "fixed<8,4>"}, "activation": {"output": "fixed<12,9>"}},
    }
    graph = quantise(import_model(Activated(activation, 0.1).eval(), (torch.randn(3, 4),)), rules)
    module = build_module(graph)
    assert_equal(graph, module)
    with torch.no_grad():
        module.layer.weight.mul_(10.0)
    assert_equal(with_weights(graph, module), module)
    again = quantise(import_model(module, (torch.randn(3, 4),)), None)
    assert_equal(again, module)


def test_function_of_an_exact_sum() -> None:
    torch.manual_seed(3)
    graph = quantise(import_model(Exact(nn.Tanh(), 0.1).eval(), (torch.randn(3, 4),)), None)
    module = build_module(graph)
    assert_equal(graph, module)
    with torch.no_grad():
        module.layer.weight.mul_(10.0)
    assert_equal(with_weights(graph, module), module)


def test_gradient_is_the_real_functions_where_the_result_fits() -> None:
    value = torch.tensor([-2.0, -0.5, 0.25, 1.5, 3.0], requires_grad=True)
    found = gw.function("tanh", value, torch.tanh, "fixed<8,4>", "fixed<8,7> half_even saturate")
    found.sum().backward()
    expected = 1 - torch.tanh(value.detach()) ** 2
    assert value.grad is not None
    torch.testing.assert_close(value.grad, expected)
    value.grad = None
    gw.function("gelu", value, torch.nn.functional.gelu, "fixed<8,4>", "fixed<4,3>").sum().backward()
    assert value.grad[-1] == 0  # 2.99 is clipped to 0.875


@pytest.mark.parametrize(
    ("name", "function", "values", "expected"),
    [
        ("exponential", torch.exp, [96.0, -448.0, 0.0, 448.0], [0.0, 0.0, 1.0, 0.0]),
        ("reciprocal", torch.reciprocal, [0.0, 2.0], [0.0, -0.25]),
        ("square_root", torch.sqrt, [0.0, 4.0, -1.0], [0.0, 0.25, 0.0]),
        ("reciprocal_square_root", torch.rsqrt, [0.0, 4.0, -1.0], [0.0, -0.0625, 0.0]),
        ("logarithm", torch.log, [0.0, 2.0, -1.0], [0.0, 0.5, 0.0]),
    ],
)
def test_gradient_is_zero_where_there_is_none(
    name: str, function: Callable[[torch.Tensor], torch.Tensor], values: list[float], expected: list[float]
) -> None:
    value = torch.tensor(values, requires_grad=True)
    gw.function(name, value, function, "e4m3", "e5m2").sum().backward()
    assert value.grad is not None
    assert value.grad.tolist() == expected


def test_operator_is_well_formed() -> None:
    value = torch.randn(3, 4).mul(16).round().div(16)
    real = torch.tanh(value).requires_grad_()
    torch.library.opcheck(function_operator, (value, real, "tanh", "fixed<8,4>", "fixed<8,7>", "{}"))


def _design(activation: nn.Module, source: str, result: str) -> gatewright.Design:
    return gatewright.compile(activation, (torch.zeros(2, 1),), {"default": {"input": source, "output": result}})


def _values(source: str) -> torch.Tensor:
    """Every value of the format, one a sample, NaN among them where it has one."""
    format = parse_format(source)
    assert isinstance(format, ScalarFormat)
    low, high = format.code_interval()
    return torch.from_numpy(format.decode(np.arange(low, high + 1))).reshape(-1, 1)


@pytest.mark.parametrize("source", ["e4m3", "e3m0", "log<6>", "e2m1", "fixed<10,1>", "ternary"])
@pytest.mark.parametrize("result", ["fixed<3,0> half_up", "e4m3 floor", "log<6>", "binary", "e4m3<ieee> infinite"])
@pytest.mark.parametrize("activation", [nn.Mish(), nn.SiLU(), nn.ELU(), nn.Sigmoid()], ids=lambda a: type(a).__name__)
def test_functions_of_every_format_round_once(activation: nn.Module, source: str, result: str) -> None:
    design, x = _design(activation, source, result), _values(source)
    expected = design(x)
    with torch.no_grad():
        np.testing.assert_array_equal(design.module(x).double().numpy(), expected.numpy())
    found = design.module(x.clone().requires_grad_())
    np.testing.assert_array_equal(found.detach().double().numpy(), expected.numpy())


def test_nan_goes_through_a_function_and_counts_as_zero_behind_it() -> None:
    x = torch.tensor([[float("nan")], [1.0]])
    assert _design(nn.Sigmoid(), "e4m3", "e5m2").module(x).isnan().flatten().tolist() == [True, False]
    assert _design(nn.Sigmoid(), "e4m3", "fixed<8,4>").module(x).flatten().tolist() == [0.0, 0.75]
    formats = {"default": {"input": "e4m3", "weight": "fixed<8,4>", "bias": "fixed<8,4>"}}
    design = gatewright.compile(nn.Sequential(nn.Tanh(), nn.Linear(1, 3)), (torch.zeros(2, 1),), formats)
    with torch.no_grad():
        found = design.module(x).double()
    assert torch.equal(found, design(x)) and bool(found.isfinite().all())
    given = x.clone().requires_grad_()
    design.module(given).sum().backward()
    assert given.grad is not None and bool(given.grad.isfinite().all())


@pytest.mark.parametrize("source", ["float16", "bfloat16"])
def test_a_wide_floating_operand_is_refused(source: str) -> None:
    with pytest.raises(gatewright.GatewrightError, match=f"more than 12 bits in {source}") as caught:
        _design(nn.Sigmoid(), source, "fixed<8,4>")
    assert [each.code for each in caught.value.diagnostics] == ["GW0343"]


@pytest.mark.parametrize(
    ("source", "result"), [("bfloat16", "bfloat16"), ("float16", "fixed<8,4>"), ("fixed<18,9>", "e4m3 floor")]
)
@pytest.mark.parametrize("activation", [nn.GELU(), nn.Sigmoid(), nn.Softplus()], ids=lambda a: type(a).__name__)
def test_software_alone_rounds_functions_of_wide_operands(activation: nn.Module, source: str, result: str) -> None:
    casts = {"default": {"input": source, "output": result}}
    module = gatewright.quantize(activation, (torch.zeros(2, 6),), casts)
    x = torch.tensor([[-3.1, -0.2, 0.0, 0.3, 2.7, float("nan")]]).requires_grad_()
    operand = gatewright.format(source).quantize(x.detach().double())
    if source.startswith("fixed"):
        operand = operand.nan_to_num(0.0)
    expected = gatewright.format(result).quantize(activation(operand))
    np.testing.assert_array_equal(module(x).detach().double().numpy(), expected.numpy())
    module(x).nansum().backward()
    assert x.grad is not None and bool((x.grad[0, :5] != 0).any())


@pytest.mark.parametrize("result", ["e5m2", "e5m2 floor", "binary"])
def test_results_too_small_for_any_float_round_by_their_sign(result: str) -> None:
    x = torch.tensor([[-57344.0], [-512.0]])
    expected = {"e5m2": 0.0, "e5m2 floor": -(2.0**-16), "binary": -1.0}[result]
    design = _design(nn.GELU(), "e5m2", result)
    assert design(x).flatten().tolist() == [expected, expected]
    assert design.module(x).flatten().tolist() == [expected, expected]


BEHIND_ZERO = {
    "relu": lambda x: torch.sigmoid(torch.relu(x)),
    "relu6, reshaped": lambda x: torch.tanh(torch.nn.functional.relu6(x).reshape(-1, 2, 2)),
    "neg": lambda x: torch.reciprocal(-x),
    "mul": lambda x: torch.rsqrt(x * -2.0),
    "maximum": lambda x: torch.reciprocal(torch.maximum(x, -x)),
    "nothing": torch.reciprocal,
}


class Applied(nn.Module):
    """A function of BEHIND_ZERO."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return BEHIND_ZERO[self.name](x)


@pytest.mark.parametrize("name", BEHIND_ZERO)
@pytest.mark.parametrize("format", ["e4m3", "e5m2 half_even infinite", "log<5>"])
def test_integers_have_no_negative_zero(name: str, format: str) -> None:
    """A port may carry the code of -0; behind an operator there is none, and no function may see one."""
    design = gatewright.compile(Applied(name), (torch.ones(2, 4),), {"default": {"input": format}})
    x = torch.tensor([[0.0, -0.0, -1e-5, 1e-5], [-1e-40, 1.0, -3.0, 0.25]])
    expected = design(x).numpy()
    compiled = torch.compile(design.module, backend="inductor" if (name, format) == ("mul", "e4m3") else "aot_eager")
    with torch.no_grad():
        np.testing.assert_array_equal(design.module(x).double().numpy(), expected)
        np.testing.assert_array_equal(compiled(x).double().numpy(), expected)
    found = design.module(x.clone().requires_grad_())
    np.testing.assert_array_equal(found.detach().double().numpy(), expected)
    torch._dynamo.reset()
