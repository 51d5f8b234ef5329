"""Whole models as kernels, from real inputs to real outputs: equal to the golden model and to the printed module."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

import gatewright as gw
from gatewright.backends.torch.build import build_module
from gatewright.backends.triton import inference as inference_module
from gatewright.backends.triton import prologues
from gatewright.backends.triton.convert import EncodeKernel
from gatewright.backends.triton.golden import GoldenProgram
from gatewright.backends.triton.inference import Inference
from gatewright.diagnostics import Collector, GatewrightError, error
from gatewright.frontend.importer import import_model
from gatewright.frontend.quantise import quantise
from gatewright.ir.formats import DETERMINISTIC_ROUNDINGS, CastSpec, Overflow, ScalarFormat, parse_format
from gatewright.ir.graph import Graph
from gatewright.ir.ops.constant import Constant
from gatewright.ir.transforms.legalise import input_casts, legalise
from gatewright.ir.transforms.prepare import prepare
from gatewright.kernels.device import LAUNCHES
from gatewright.sim import golden
from tests.conformance.random_models import draw_formats, draw_inputs, draw_model


class Convolutions(nn.Module):
    """Convolutions with padding, stride and groups, a pooling, and a dense head."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 6, 3, padding=1)
        self.depthwise = nn.Conv2d(6, 6, 3, stride=2, groups=6)
        self.head = nn.Linear(6 * 2 * 2, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.first(x)), 2)
        return self.head(torch.relu(self.depthwise(x)).flatten(1))


class Tokens(nn.Module):
    """Two products of streams around a function, as attention has them, and a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(6, 6) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.query(x) @ self.key(x).transpose(1, 2)
        mixed = torch.sigmoid(scores) @ self.value(x)
        return (mixed - mixed.amax(dim=2, keepdim=True)).mean(dim=1)


FORMATS = {
    "default": {"input": "fixed<8,4>", "weight": "fixed<8,6>", "bias": "fixed<12,8>", "output": "fixed<8,4>"},
}
MODELS = {"convolutions": (Convolutions, (2, 11, 11)), "tokens": (Tokens, (5, 6))}


def quantised(name: str) -> tuple[Graph, tuple[int, ...]]:
    """A model's quantised graph and its input's shape."""
    torch.manual_seed(4)
    make, shape = MODELS[name]
    formats = FORMATS if name == "tokens" else {"default": {**FORMATS["default"]}}
    if name == "convolutions":
        formats["default"].pop("output")
    return quantise(prepare(import_model(make().eval(), (torch.randn(2, *shape),))), formats), shape


def expected_outputs(program: GoldenProgram, graph: Graph, inputs: tuple[torch.Tensor, ...]) -> list[np.ndarray]:
    """The golden model's reals; the ports' casts are NumPy's."""
    integers = legalise(graph).graph
    casts = input_casts(graph, Collector())
    specs = [casts[value].spec for value in program.ports]
    codes = [
        spec.format.encode(each.double().cpu().numpy(), spec.rounding, spec.overflow)  # type: ignore[attr-defined]
        for spec, each in zip(specs, inputs, strict=True)
    ]
    found: list[np.ndarray] = []
    for value, array in zip(integers.outputs, golden.evaluate(integers, codes), strict=True):
        assert isinstance(value.format, ScalarFormat)
        found.append(value.format.decode(array))
    return found


def check_model(graph: Graph, inputs: tuple[torch.Tensor, ...]) -> GoldenProgram:
    """The program's outputs are the golden model's."""
    program = GoldenProgram(graph, legalise(graph))
    for found, wanted in zip(program(*inputs), expected_outputs(program, graph, inputs), strict=True):
        assert found.dtype == torch.float64
        assert found.device == inputs[0].device
        np.testing.assert_array_equal(found.cpu().numpy(), wanted)
    assert "@triton.jit" in program.source()
    return program


@pytest.mark.parametrize("name", MODELS)
def test_models(name: str, where: torch.device) -> None:
    graph, shape = quantised(name)
    check_model(graph, (torch.randn(9, *shape, device=where) * 3,))


@pytest.mark.parametrize("formats", ["mxint8", "mxfp8_e4m3", "mxfp4"])
def test_block_formats(formats: str, where: torch.device) -> None:
    torch.manual_seed(6)
    model = nn.Linear(64, 5).eval()
    roles = {"default": {"input": formats, "weight": formats, "bias": "fixed<12,8>"}}
    design = gw.compile(model, (torch.randn(2, 64),), formats=roles)
    inputs = torch.randn(9, 64) * 2.0 ** torch.randint(-6, 6, (9, 64))
    (found,) = design.program(inputs.to(where))
    assert torch.equal(found.cpu(), design(inputs))
    assert design(inputs[:0]).shape == design.program(inputs[:0].to(where))[0].shape == (0, 5)
    assert "@triton.jit" in design.kernels(9)


def test_everything_in_one_block_format(where: torch.device) -> None:
    """A bias in blocks, and a sum that reads blocks through a window."""

    class Residual(nn.Module):
        """A layer beside its input."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(16, 16)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x + self.layer(x))

    torch.manual_seed(6)
    inputs = torch.randn(9, 16) * 2.0 ** torch.randint(-6, 6, (9, 16))
    design = gw.compile(Residual().eval(), (inputs[:2],), formats="mxint8")
    (found,) = design.program(inputs.to(where))
    assert torch.equal(found.cpu(), design(inputs))


def test_the_module_of_a_design(where: torch.device) -> None:
    """On the GPU a compiled module's inference is the kernels; the values are the golden model's everywhere."""
    torch.manual_seed(8)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).eval()
    design = gw.compile(model, (torch.randn(2, 64),), formats=FORMATS)
    module, inputs = design.module.to(where).eval(), torch.randn(40, 64)
    LAUNCHES.clear()
    with torch.no_grad():
        found = module(inputs.to(where))
    assert torch.equal(found.cpu().double(), design(inputs).double())
    assert (("printed product", "gpu") in LAUNCHES) == (where.type == "cuda")


@pytest.mark.parametrize("seed", range(32))
def test_random_models(seed: int, where: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    if seed >= 24:  # every map that can be is computed in the product behind it, whatever it costs
        monkeypatch.setattr(prologues, "costs_less", lambda *_: True)
    model = draw_model(seed)
    graph = prepare(import_model(model.module, tuple(draw_inputs(model, 3, model.seed))))
    names = {node.op.name for node in graph.nodes if not isinstance(node.op, Constant)}
    kinds = sorted(names - {"batch_norm_scale", "batch_norm_shift"})
    graph = quantise(graph, draw_formats(model.seed, kinds))
    check_model(graph, tuple(each.to(where) for each in draw_inputs(model, 12, seed + 1)))


@pytest.mark.parametrize("name", MODELS)
def test_inference_of_the_module(name: str, where: torch.device) -> None:
    graph, shape = quantised(name)
    module = build_module(graph).to(where)
    inference = Inference(graph)
    forward = type(module).forward.__wrapped__  # type: ignore[attr-defined]
    for _ in range(2):
        inputs = (torch.randn(7, *shape, device=where) * 2,)
        with torch.no_grad():
            wanted, found = forward(module, *inputs), inference(forward, module, inputs)
        assert isinstance(found, torch.Tensor)
        assert found.dtype == wanted.dtype
        assert torch.equal(found, wanted)
        with torch.no_grad():  # as an optimiser's step does
            for parameter in module.parameters():
                parameter.mul_(0.75)


def test_weights_written_through_data_in_training(where: torch.device) -> None:
    """No version counts such writes, which averages of weights and pruning do; a call that trains tells of them."""
    graph, shape = quantised("tokens")
    module = build_module(graph).to(where)
    inference = Inference(graph)
    forward = type(module).forward.__wrapped__  # type: ignore[attr-defined]
    inputs = (torch.randn(7, *shape, device=where) * 2,)
    found: list[torch.Tensor] = []
    for _ in range(2):
        with torch.no_grad():
            found.append(inference(forward, module.eval(), inputs))  # type: ignore[arg-type]
            assert torch.equal(found[-1], forward(module, *inputs))
        assert not inference.serves(module.train(), inputs)
        for parameter in module.parameters():
            parameter.data.mul_(0.5)
    assert not torch.equal(*found)


def test_weights_without_an_integer_form_are_told(where: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, shape = quantised("tokens")
    module = build_module(graph).to(where).eval()
    inference = Inference(graph)
    forward = type(module).forward.__wrapped__  # type: ignore[attr-defined]
    inputs = (torch.randn(7, *shape, device=where),)
    with torch.no_grad():
        assert inference(forward, module, inputs) is not None
        next(module.parameters()).mul_(2.0)

        def refuse(graph: object) -> None:
            raise error("GW0336", "these weights cannot be had")

        monkeypatch.setattr(inference_module, "legalise", refuse)
        with pytest.warns(UserWarning, match="PyTorch computes it(.|\n)*cannot be had"):
            assert inference(forward, module, inputs) is None
        assert inference(forward, module, inputs) is None  # told once


def test_what_inference_leaves_to_pytorch(where: torch.device) -> None:
    graph, shape = quantised("tokens")
    module = build_module(graph).to(where)
    module.infer_with(Inference(graph))
    assert module.inference is not None
    good = torch.randn(3, *shape, device=where)
    on_gpu = where.type == "cuda"
    with torch.no_grad():
        assert module.inference.serves(module, (good,)) == on_gpu
        assert not module.inference.serves(module, (good.cpu(),))
        assert not module.inference.serves(module, (good[:, :2],))
        assert not module.inference.serves(module.train(), (good,))
        module.eval()
        wanted = type(module).forward.__wrapped__(module, good)  # type: ignore[attr-defined]
        assert torch.equal(module(good), wanted)
        assert copy.deepcopy(module).inference is None
    assert not module.inference.serves(module, (good,))
    assert module(good).requires_grad


@pytest.mark.parametrize("overflow", [Overflow.SATURATE, Overflow.SATURATE_SYMMETRIC, Overflow.WRAP])
@pytest.mark.parametrize("name", ["fixed<8,4>", "ufixed<5,2>", "fixed<31,20>", "fixed<12,-3>", "fixed<40,20>", "e4m3"])
def test_ports_cast_as_the_golden_model(name: str, overflow: Overflow, where: torch.device) -> None:
    form = parse_format(name)
    assert isinstance(form, ScalarFormat)
    generator = np.random.default_rng(2)
    spread = generator.normal(size=500) * 2.0 ** generator.integers(-9, 30, 500)
    steps = np.concatenate([np.arange(-600, 600) / 64, spread])
    nearly = np.nextafter(steps, np.inf)
    special = np.asarray([np.nan, np.inf, -np.inf, 1e300, -1e300, 1e-300, -1e-300, -0.0, 0.25 - 2**-54, -0.25 + 2**-54])
    reals = np.concatenate([steps, nearly, special])
    for rounding in DETERMINISTIC_ROUNDINGS:
        spec = CastSpec(form, rounding, overflow)
        kernel = EncodeKernel("x", spec)
        for dtype in (torch.float64, torch.float32, torch.bfloat16):
            given = torch.from_numpy(reals).to(dtype)
            try:
                wanted = form.encode(given.double().numpy(), rounding, overflow)
            except GatewrightError:
                continue  # the format has no such cast
            found = kernel(given.to(where))
            assert isinstance(found, torch.Tensor)
            np.testing.assert_array_equal(found.cpu().numpy(), wanted, err_msg=f"{spec} of {dtype}")
