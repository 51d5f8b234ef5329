"""Convolutions in block formats and with scaled weights: hardware and PyTorch equal the golden model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction

import numpy as np
import pytest
import torch
from _pytest.mark.structures import ParameterSet
from torch import Tensor, nn
from torch.nn import functional as F

import gatewright as gw
from gatewright.ir.blocks import quantise_blocks
from gatewright.ir.builder import Builder, interval_of_codes
from gatewright.ir.formats import Block, ScalarFormat, parse_cast, parse_format
from gatewright.ir.types import Type
from gatewright.sim import golden
from tests.format_hardware.test_pairs import BLOCK_PAIRS, SCALED_PAIRS, check, fitted

QUICK = {
    ("nvfp4", "nvfp4"),
    ("mxint8<8>", "mxint8<8>"),
    ("mxfp8_e5m2<8>", "mxfp8_e5m2<8>"),
    ("e4m3", "mxfp4<8>"),
    ("binary", "mxfp4<8>"),
}
QUICK_SCALED = {("fixed<8,4>", "residual<2>"), ("e4m3", "binary<channel>")}


def marked(pairs: Iterable[tuple[str, str]], quick: set[tuple[str, str]]) -> list[ParameterSet]:
    """The pairs as parameters of a test, all but the quick ones slow."""
    return [pytest.param(*pair, id="-".join(pair), marks=() if pair in quick else pytest.mark.slow) for pair in pairs]


def scattered(model: nn.Module, seed: int = 3) -> nn.Module:
    """The model with weights large enough to use every format."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model.eval()


def compiled(model: nn.Module, x: Tensor, activation: str, weight: str, interval: int | None = None) -> gw.Design:
    formats = {
        "default": {"input": activation, "weight": weight, "bias": "fixed<10,4>"},
        "type": {"add": {"input": "fixed<16,6>"}} if isinstance(model, Branches) else {},
    }
    return gw.compile(fitted(model, weight), (x,), formats, interval=interval)


def equals_module(design: gw.Design, *shape: int) -> None:
    """The printed module equals the golden model on real inputs."""
    x = torch.randn(5, *shape, generator=torch.Generator().manual_seed(1)) * 2
    with torch.no_grad():
        assert torch.equal(design.module(x).double(), design(x))


def two_convolutions() -> nn.Module:
    """Padding on both sides, several blocks a position, and a quantiser between the layers."""
    return scattered(nn.Sequential(nn.Conv2d(16, 16, 2, padding=1), nn.ReLU(), nn.Conv2d(16, 3, (1, 2))))


@pytest.mark.parametrize(("activation", "weight"), marked(BLOCK_PAIRS, QUICK))
def test_convolution_in_block_formats(activation: str, weight: str) -> None:
    design = compiled(two_convolutions(), torch.randn(2, 16, 3, 2), activation, weight, 400)
    check(design)
    equals_module(design, 16, 3, 2)


@pytest.mark.parametrize(("activation", "weight"), marked(SCALED_PAIRS, QUICK_SCALED))
def test_convolution_with_scaled_weights(activation: str, weight: str) -> None:
    model = scattered(nn.Sequential(nn.Conv2d(4, 6, 3, padding=1, groups=2), nn.ReLU(), nn.Conv2d(6, 3, 2)))
    design = compiled(model, torch.randn(2, 4, 4, 3), activation, weight, 160)
    check(design)
    equals_module(design, 4, 4, 3)


class Branches(nn.Module):
    """What stands between convolutions: pooling, a second reader of the exact value, a flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(8, 8, 3, padding=1, groups=1)
        self.grouped = nn.Conv2d(8, 16, (2, 1), stride=(1, 2), groups=2)
        self.point = nn.Conv2d(8, 16, 1, stride=2)
        self.last = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Of [batch, 8, 6, 4]."""
        pooled = F.max_pool2d(torch.relu(self.first(x)), 2)
        together = self.grouped(pooled) + self.point(pooled)
        return self.last(together.flatten(1))


class Lines(nn.Module):
    """One spatial axis, with stride and dilation."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(8, 8, 3, stride=2, padding=2)
        self.second = nn.Conv1d(8, 4, 2, dilation=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Of [batch, 8, 9]."""
        return self.second(torch.relu(self.first(x)))


class Products(nn.Module):
    """Constants on the left, on the right and in batches, and a port that is moved before it is read."""

    left: Tensor
    right: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("left", torch.randn(4, 8))
        self.register_buffer("right", torch.randn(2, 8, 4))
        self.square = nn.Parameter(torch.randn(4, 8))

    def forward(self, x: Tensor) -> Tensor:
        """Of [batch, 2, 6, 8]."""
        turned = self.left @ x.permute(0, 1, 3, 2)  # [batch, 2, 4, 6]
        return turned.permute(0, 1, 3, 2) @ self.square @ self.right  # [batch, 2, 6, 4]


@pytest.mark.parametrize(
    ("make", "shape", "formats"),
    [
        (Branches, (8, 6, 4), ("mxfp8<4>", "mxint8<4>")),
        (Lines, (8, 9), ("mxint8<8>", "mxfp4<8>")),
        (Products, (2, 6, 8), ("mxint6<4>", "mxfp6<4>")),
    ],
    ids=lambda each: getattr(each, "__name__", None),
)
def test_blocks_between_layers(make: Callable[[], nn.Module], shape: tuple[int, ...], formats: tuple[str, str]) -> None:
    design = compiled(scattered(make()), torch.randn(2, *shape), *formats, interval=500)
    check(design)
    equals_module(design, *shape)


def test_a_port_in_blocks_is_moved_before_its_cast() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    design = compiled(scattered(model), torch.randn(2, 1, 6, 6), "mxint8<4>", "mxint8<4>")
    elements, scales = design.integer_graph.inputs
    assert (elements.shape, scales.shape) == ((9, 4), (9, 1))
    x = torch.randn(3, 1, 6, 6)
    format = parse_format("mxint8<4>")
    assert isinstance(format, Block)
    codes, scale_codes = format.encode(x.numpy().reshape(3, 36))
    found, found_scales = design.encode(x)
    np.testing.assert_array_equal(found.reshape(3, 36), codes)
    np.testing.assert_array_equal(found_scales.reshape(3, 9), scale_codes)
    check(design)


def blocks_of(real: np.ndarray, spec: str, axis: int) -> np.ndarray:
    """The values of an array in a block format, as exact fractions."""
    format = parse_format(spec)
    assert isinstance(format, Block)
    return np.vectorize(Fraction, otypes=[object])(format.quantize(real, axis))


def test_what_a_convolution_of_blocks_is() -> None:
    """Each block's exact product is rounded into the window, and only then added."""
    model = scattered(nn.Sequential(nn.Conv2d(8, 2, 2, padding=(1, 0), bias=False)))
    formats = {"default": {"input": "mxfp8<4>", "weight": "mxint8<4>", "accumulator": "fixed<12,3> floor"}}
    x = torch.randn(1, 8, 3, 3) * 2
    design = gw.compile(model, (x,), formats)
    weight = next(model.parameters()).detach().numpy()
    values = blocks_of(np.pad(x[0].numpy(), ((0, 0), (1, 1), (0, 0))), "mxfp8<4>", 0)
    weights = blocks_of(weight, "mxint8<4>", 1)
    expected = np.zeros((2, 4, 2), dtype=object)
    for out, row, column in np.ndindex(2, 4, 2):
        for down, right, block in np.ndindex(2, 2, 2):
            part = slice(4 * block, 4 * block + 4)
            pairs = zip(values[part, row + down, column + right], weights[out, part, down, right], strict=True)
            expected[out, row, column] += sum(a * b for a, b in pairs) * 8 // 1
    np.testing.assert_array_equal(design(x)[0].numpy(), (expected / 8).astype(np.float64))


@pytest.mark.parametrize("element", ["binary", "e2m1", "log<4>"])
def test_padding_is_zero_to_the_last_bit(element: str) -> None:
    """A window that rounds down shows every negative product, however small."""
    model = scattered(nn.Sequential(nn.Conv2d(8, 2, 2, padding=1, bias=False)))
    casts = {"input": f"block<{element},e8m0,8>", "weight": "mxint8<8>", "accumulator": "fixed<16,3> floor"}
    design = gw.compile(model, (torch.randn(1, 8, 2, 2),), {"default": casts})
    equals_module(design, 8, 2, 2)


@pytest.mark.parametrize("name", ["mxint8<8>", "mxfp8<8>", "mxfp4<4>", "nvfp4<8>", "block<log<4>,e8m0,8>"])
def test_quantiser_along_the_channels_equals_encode(name: str) -> None:
    spec, format = parse_cast(name), parse_format("fixed<12,6>")
    assert isinstance(spec.format, Block)
    assert isinstance(format, ScalarFormat)
    builder = Builder("quantiser")
    value = builder.input("x", Type((8, 3, 2), format, interval_of_codes(format)))
    block = quantise_blocks(builder, value, spec, axis=-3)
    assert block.axis == -3
    codes = np.random.default_rng(1).integers(-2048, 2048, (50, 8, 3, 2)) >> 3
    found, scales = golden.evaluate(builder.finish([block.elements, block.scales]), [codes])
    expected, expected_scales = spec.format.encode(codes / 64, 1, spec.rounding, spec.overflow)
    size = spec.format.sizes[0]
    np.testing.assert_array_equal(found.reshape(50, 3, 2, 8), np.moveaxis(expected, 1, -1))
    np.testing.assert_array_equal(scales.reshape(50, 3, 2, 8 // size), np.moveaxis(expected_scales, 1, -1))


def test_training_of_a_convolution_in_block_formats() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1)), torch.randn(16, 8, 4, 4)
    target = x[:, :2] * 2 - x[:, 2:4]
    formats = {"default": {"input": "mxfp8<8>", "weight": "mxint8<8>", "bias": "fixed<12,8>"}}
    module = gw.quantize(model, (x,), formats).train()
    optimiser = torch.optim.Adam(module.parameters(), 0.02)
    losses: list[float] = []
    for _ in range(25):
        loss = ((module(x) - target) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    trained = gw.compile(module.eval(), (x,))
    with torch.no_grad():
        assert torch.equal(trained(x), module(x).double())


def test_gradients_are_those_of_the_quantised_operands() -> None:
    """Casts pass gradients on as they are: those are a plain convolution's, of the operands once cast."""
    torch.manual_seed(2)
    x = (torch.randn(3, 8, 5, 4)).requires_grad_()
    model = nn.Conv2d(8, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2, bias=False)
    module = gw.quantize(model, (x,), {"default": {"input": "mxint8<4>", "weight": "mxfp8<4>"}}).train()
    upstream = torch.randn(3, 4, 3, 2)
    found = torch.autograd.grad(module(x), (x, module.weight), upstream.double())
    left = torch.from_numpy(values_in_blocks(x, "mxint8<4>")).requires_grad_()
    right = torch.from_numpy(values_in_blocks(module.weight, "mxfp8<4>")).requires_grad_()
    plain = F.conv2d(left, right, None, (2, 1), (1, 0), (1, 2), 2)
    expected = torch.autograd.grad(plain, (left, right), upstream.double())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)


def values_in_blocks(tensor: Tensor, name: str) -> np.ndarray:
    format = parse_format(name)
    assert isinstance(format, Block)
    return format.quantize(tensor.detach().double().numpy(), 1)


class CastWrongly(nn.Module):
    """The blocks lie along the width."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(8, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Of [batch, 8, 4, 8]."""
        return self.layer(gw.cast(gw.cast(x, "fixed<8,4>"), "mxint8<8>"))


class TwoReaders(nn.Module):
    """A convolution and a linear layer read one input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(8, 8, 3), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of [batch, 8, 4, 8]."""
        return self.conv(x), self.linear(x)


class CutApart(nn.Module):
    """A flatten of blocks along the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Of [batch, 8, 2, 4]."""
        return self.linear(gw.cast(gw.cast(x, "fixed<8,4>"), "mxint8<8>", axis=1).flatten(1))


class PermuteBlocks(nn.Module):
    """Blocks that are moved between their cast and the product."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(gw.cast(gw.cast(x, "fixed<8,4>"), "mxint8<8>").transpose(1, 2))


BLOCKS, PLAIN = "mxint8<8>", "fixed<8,4>"
REFUSED = [
    (nn.Conv2d(12, 4, 3), (12, 4, 4), (BLOCKS, PLAIN), "GW0380", "blocks of 8 do not fill an axis of 12"),
    (nn.Conv2d(8, 8, 3, groups=8), (8, 4, 4), (BLOCKS, PLAIN), "GW0380", "the 1 channels of one of its 8 groups"),
    (nn.Conv2d(24, 8, 3, groups=2), (24, 4, 4), (BLOCKS, PLAIN), "GW0380", "such as 12"),
    (nn.Conv2d(4, 4, 3, groups=4), (4, 4, 4), (BLOCKS, BLOCKS), "GW0380", '[name."conv2d"] input = "fixed<8,4>"'),
    (nn.Conv2d(8, 4, 3), (8, 4, 4), (BLOCKS, "mxfp4<4>"), "GW0382", "have blocks of different sizes"),
    (nn.Conv2d(8, 4, 3), (8, 4, 4), (BLOCKS, "residual<2>"), "GW0386", "do not meet in one product"),
    (nn.ConvTranspose2d(8, 4, 3), (8, 4, 4), (BLOCKS, PLAIN), "GW0386", "conv_transpose"),
    (nn.ConvTranspose2d(8, 4, 3), (8, 4, 4), (PLAIN, "binary<channel>"), "GW0386", "conv_transpose"),
    (nn.Conv2d(8, 4, 3), (8, 4, 4), ("block<e2m1,e8m0,2x8>", PLAIN), "GW0381", "over 2 axes"),
    (
        CastWrongly(),
        (8, 4, 8),
        (PLAIN, PLAIN),
        "GW0386",
        "the product sums axis -3 of x [8, 4, 8] with axis -3 of layer.weight",
    ),
    (TwoReaders(), (8, 4, 8), (BLOCKS, PLAIN), "GW0335", "axis -1 of [8, 4, 8] and along axis -3"),
    (CutApart(), (8, 2, 4), (PLAIN, PLAIN), "GW0386", "blocks of 8 along axis -3"),
    (nn.Sequential(nn.Conv2d(8, 4, 3), nn.LeakyReLU()), (8, 4, 4), (PLAIN, "binary<channel>"), "GW0386", "leaky_relu"),
    (PermuteBlocks(), (8, 8), (PLAIN, PLAIN), "GW0386", "permute reads its operand"),
    (nn.Sequential(nn.Conv2d(8, 8, 1), nn.GELU()), (8, 4, 4), (BLOCKS, PLAIN), "GW0341", '[name."1"] (or [type.gelu])'),
    (nn.Conv2d(8, 4, 3, padding=1), (8, 4, 4), ("block<binary,binary,8>", PLAIN), "GW0212", "cannot be a scale"),
]


@pytest.mark.parametrize(("model", "shape", "formats", "code", "words"), REFUSED)
def test_what_is_refused(
    model: nn.Module, shape: tuple[int, ...], formats: tuple[str, str], code: str, words: str
) -> None:
    casts = {"default": {"input": formats[0], "weight": formats[1], "bias": "fixed<10,4>"}}
    with pytest.raises(gw.GatewrightError) as caught:
        gw.compile(fitted(model, formats[1]), (torch.randn(2, *shape),), casts)
    assert code in {each.code for each in caught.value.diagnostics}
    assert words in str(caught.value)


class PaddedBefore(nn.Module):
    """Zeros around the operand on two sides, by an operator of their own and by the convolution."""

    def __init__(self, padding: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 4, 3, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(F.pad(x, (1, 0)), (0, 0, 2, 1)))


@pytest.mark.parametrize("formats", ["mxint8<8>", "nvfp4<8>"])
@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (PaddedBefore(0), (8, 3, 3)),
        (PaddedBefore(1), (8, 3, 3)),
        (nn.Conv2d(8, 4, 2, padding="same"), (8, 3, 3)),
        (nn.Conv1d(8, 4, 2, padding="same", dilation=3), (8, 5)),
    ],
)
def test_padding_that_differs_on_the_two_sides(model: nn.Module, shape: tuple[int, ...], formats: str) -> None:
    """The model, the module printed from it, and the module printed from that are one convolution."""
    torch.manual_seed(2)
    x = torch.randn(3, *shape)
    design = gw.compile(scattered(model), (x[:1],), formats)
    again = gw.compile(design.module, (x[:1],), None)
    assert torch.equal(design(x), again(x))
    assert torch.equal(design.module(x).double(), design(x))
    assert torch.equal(again.module(x).double(), design(x))
    assert [node.op.name for node in again.graph.nodes].count("pad") == 0
    again.verify(x, stalls="both")
