"""Codecs, formats and printed modules under torch.compile: several in one process, with the bits of eager PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

import gatewright as gw
from gatewright.backends.torch.build import build_module
from gatewright.backends.torch.codecs import Codec, make_codec
from gatewright.frontend.importer import import_model
from gatewright.frontend.quantise import quantise
from gatewright.ir.formats import parse_format

NAMES = (
    "mxint8", "mxfp8", "mxfp8_e5m2", "mxfp6", "mxfp6_e2m3", "mxfp4", "nvfp4", "e4m3", "e5m2", "fixed<8,4>",
    "fixed<6,3>", "bfloat16", "float16", "block<e2m1,e8m0,8x16>", "ternary<mean>", "residual<2>",
)  # fmt: skip
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(autouse=True)
def _as_new() -> Iterator[None]:
    """Nothing compiled before, and room for every format in one function."""
    torch._dynamo.reset()
    with torch._dynamo.config.patch(recompile_limit=64):
        yield
    torch._dynamo.reset()


def values(where: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Blocks of many sizes, with zeros, infinities and NaN among them."""
    generator = torch.Generator().manual_seed(7)
    found = torch.randn(48, 96, generator=generator) * torch.exp2(torch.randint(-20, 20, (48, 1), generator=generator))
    found[3, :40], found[5, 2], found[6, 70], found[7] = 0.0, torch.inf, torch.nan, -0.0
    return found.to(where, dtype)


def same(found: Any, expected: Any) -> bool:
    """Equal bits in every tensor; one NaN is as good as another."""
    if not isinstance(found, torch.Tensor):
        pairs = zip(found, expected, strict=True)
        return all(one is other if other is None else same(one, other) for one, other in pairs)
    if not found.is_floating_point():
        return torch.equal(found, expected)
    signs = torch.signbit(found) == torch.signbit(expected)
    return found.dtype == expected.dtype and bool(
        (((found == expected) & signs) | (found.isnan() & expected.isnan())).all()
    )


def quantize(codec: Codec, x: torch.Tensor) -> torch.Tensor:
    return codec.quantize(x)


def there_and_back(codec: Codec, x: torch.Tensor) -> torch.Tensor:
    return codec.decode(*codec.encode(x))


@pytest.mark.parametrize("function", [quantize, there_and_back])
def test_the_numbers_of_a_codec_are_constants(function: Callable[[Codec, torch.Tensor], torch.Tensor]) -> None:
    """No integer of a second codec becomes a variable, and a codec made later invalidates nothing."""
    inputs: list[list[type]] = []

    def backend(graph: torch.fx.GraphModule, given: list[Any]) -> Callable[..., Any]:
        inputs.append([type(each) for each in given])
        return graph.forward

    compiled = torch.compile(function, backend=backend, fullgraph=True)
    x = values("cpu")
    for _ in range(2):
        for name in NAMES:
            codec = make_codec(parse_format(name))
            assert same(compiled(codec, x), function(codec, x)), name
    assert len(inputs) == len(NAMES)
    assert all(issubclass(each, torch.Tensor) for graph in inputs for each in graph)


@pytest.mark.parametrize("where", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_codecs_give_the_bits_of_eager(where: str, dtype: torch.dtype) -> None:
    compiled = torch.compile(quantize, fullgraph=True)
    x = values(where, dtype)
    for name in ("mxint8", "mxfp4", "nvfp4") if where == "cpu" else NAMES:
        codec = make_codec(parse_format(name))
        found = compiled(codec, x)
        assert same(found, codec.quantize(x)), name
        assert same(found.cpu(), codec.quantize(x.cpu())), name


@pytest.mark.parametrize("where", DEVICES)
@pytest.mark.parametrize("name", NAMES)
def test_formats_in_a_whole_graph(name: str, where: str) -> None:
    """`gw.format` made outside of the compiled function, its methods and `gw.cast` in it."""
    form = gw.format(name)

    def function(x: torch.Tensor) -> Any:
        encoded = form.encode(x)
        parts = encoded if isinstance(encoded, tuple) else (encoded,)
        return form.quantize(x), form.decode(*parts), *parts, gw.cast(x, name)

    x = values(where).nan_to_num(1.0, 3.0, -3.0)
    assert same(torch.compile(function, backend="aot_eager", fullgraph=True)(x), function(x))
    gradients: list[torch.Tensor | None] = []
    for run in (torch.compile(form.fake_quantize, backend="aot_eager", fullgraph=True), form.fake_quantize):
        leaf = x.clone().requires_grad_()
        (run(leaf, clip=True) * x).sum().backward()
        gradients.append(leaf.grad)
    assert same(*gradients)


@pytest.mark.parametrize("name", ["ternary<mean>", "binary<channel>", "residual<2>", "e4m3", "fixed<8,4>"])
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3, 4)])
def test_a_bare_format_is_compiled_for_any_shape(name: str, shape: tuple[int, ...]) -> None:
    """A single number too, such as the slope of a PReLU: no element of a tensor is read while tracing."""
    form, x = gw.format(name), torch.randn(shape, generator=torch.Generator().manual_seed(1))
    for method in (form.quantize, form.encode, form.fake_quantize):
        found, expected = torch.compile(method, backend="aot_eager", fullgraph=True)(x), method(x)
        assert same(*((each if isinstance(each, tuple) else (each,)) for each in (found, expected)))


class Network(nn.Module):
    """A convolution over 32 channels, and linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(32, 4, 3, padding=1)
        self.hidden = nn.Linear(64, 32)
        self.last = nn.Linear(32, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.hidden(torch.flatten(torch.relu(self.convolution(x)), 1)))
        return self.last(torch.nn.functional.gelu(hidden))


def train(module: nn.Module, run: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> list[torch.Tensor]:
    """Two steps of gradient descent: the outputs, then the parameters."""
    optimiser = torch.optim.SGD(module.parameters(), lr=0.05)
    outputs: list[torch.Tensor] = []
    for _ in range(2):
        optimiser.zero_grad()
        outputs.append(run(x))
        outputs[-1].square().mean().backward()
        optimiser.step()
    return [*outputs, *module.parameters()]


def train_compiled(where: str, backend: str, *pairs: tuple[str, str]) -> None:
    """Modules of pairs of formats (activations, weights) in one process: compiled training is eager training."""
    for activation, weight in pairs:
        torch.manual_seed(3)
        example = torch.randn(4, 32, 4, 4)
        model = Network().eval()
        product = {"input": activation, "weight": weight, "bias": "fixed<12,8>"}
        function = {"input": "fixed<8,4>", "output": "fixed<8,5>"}
        formats = {"default": product, "type": {"gelu": function}}
        found: list[list[torch.Tensor]] = []
        for compiled in (True, False):
            module = build_module(quantise(import_model(model, (example,)), formats)).to(where).train()
            run = torch.compile(module, backend=backend, fullgraph=True) if compiled else module
            found.append(train(module, run, example.to(where)))
            module.eval()
            with torch.no_grad():
                found[-1].append(run(example.to(where)))
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
        assert same(found[0][0], found[1][0])  # before any gradient: the exact golden model


@pytest.mark.parametrize("where", DEVICES)
def test_modules_with_block_formats_train(where: str) -> None:
    train_compiled(where, "aot_eager", ("mxfp8", "mxfp4"), ("nvfp4", "nvfp4"))


@pytest.mark.slow
@pytest.mark.parametrize("where", DEVICES)
def test_modules_with_block_formats_train_in_compiled_kernels(where: str) -> None:
    train_compiled(where, "inductor", ("mxfp8", "mxfp4"))
