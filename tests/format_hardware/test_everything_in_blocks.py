"""One block format for a whole model: biases, sums, pools and short axes, against exact rational numbers."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gatewright as gw
from gatewright.ir.formats import Block, GroupFormat, ScaledSigns, parse_format

STALLS = ("none", "input", "output", "both")


class Add(nn.Module):
    """A matrix product with a parameter, and another added."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 5))
        self.bias = nn.Parameter(torch.randn(5))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class Residual(nn.Module):
    """Two layers beside their input, and one behind."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.second(torch.relu(self.first(x)))
        return self.last(torch.relu(x))


class Pictures(nn.Module):
    """A small network of convolutions with a residual sum, pools and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = self.pool(torch.relu(x + self.second(x)))
        return self.last(x.mean((2, 3)))


class Beside(nn.Module):
    """An input in blocks that a convolution and a sum read."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(16, 40), (16,)),
    "narrow": (lambda: nn.Linear(10, 7), (10,)),
    "conv1d": (lambda: nn.Conv1d(16, 4, 3, padding=1), (16, 3)),
    "conv2d": (lambda: nn.Conv2d(3, 4, 2, padding=1), (3, 3, 2)),
    "groups": (lambda: nn.Conv2d(8, 4, 1, groups=2), (8, 2, 2)),
    "sum": (Add, (2, 16)),
    "residual": (Residual, (8,)),
    "pictures": (Pictures, (3, 4, 4)),
    "beside": (Beside, (4, 3, 3)),
    "relu first": (lambda: nn.Sequential(nn.ReLU(), nn.Conv2d(4, 3, 2)), (4, 3, 3)),
}
QUICK = {("linear", "mxint8"), ("residual", "mxfp4"), ("pictures", "mxint8"), ("beside", "mxint8"), ("conv1d", "nvfp4")}
CASES = [
    pytest.param(name, formats, marks=() if (name, formats) in QUICK else pytest.mark.slow)
    for name in MODELS
    for formats in ("mxint8", "mxfp4", "nvfp4", "mxfp8_e5m2")
]


@pytest.mark.parametrize(("name", "formats"), CASES)
def test_one_format_for_a_whole_model(name: str, formats: str) -> None:
    """Golden model, PyTorch and hardware agree, whatever stalls."""
    torch.manual_seed(3)
    make, shape = MODELS[name]
    model, x = make().eval(), torch.randn(6, *shape) * 2
    design = gw.compile(model, (x[:1],), formats=formats)
    with torch.no_grad():
        assert torch.equal(design.module(x).double(), design(x))
    for stalls in STALLS:
        design.verify(x[:3], stalls=stalls)


def as_fractions(real: Tensor, name: str) -> list[Fraction]:
    """A vector rounded into a format, by the definition of blocks whose scale is a power of two."""
    format = parse_format(name)
    assert isinstance(format, Block)
    found: list[Fraction] = []
    for start in range(0, len(real), format.sizes[0]):
        values = [Fraction(float(each)) for each in real[start : start + format.sizes[0]]]
        largest = max(abs(each) for each in values)
        exponent = -127
        if largest:
            exponent = largest.numerator.bit_length() - largest.denominator.bit_length()
            exponent -= Fraction(2) ** exponent > largest
            exponent = min(max(exponent - format.element.largest_exponent, -127), 127)
        scale = Fraction(2) ** exponent
        codes = [format.element.encode_fraction(each / scale, overflow=format.default_overflow) for each in values]
        found += [format.element.decode_fraction(code) * scale for code in codes]
    return found


def scaled_fractions(real: Tensor, name: str) -> list[Fraction]:
    """A vector rounded into a scaled format, by its own exact codes."""
    format = parse_format(name)
    assert isinstance(format, ScaledSigns)
    codes, scales = format.encode(real.double().numpy(), 0)
    bits = format.element.width
    found = [Fraction(0)] * len(real)
    for index, code in enumerate(codes):
        for level, scale in enumerate(scales[index if len(scales) > 1 else 0]):
            sign = format.element.decode_fraction(int(code) >> (level * bits) & ((1 << bits) - 1))
            found[index] += sign * format.scale.decode_fraction(int(scale))
    return found


LAYERS: dict[str, tuple[Callable[[int], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda outputs: nn.Linear(3, outputs), (3,)),
    "conv1d": (lambda outputs: nn.Conv1d(3, outputs, 2), (3, 2)),
    "conv2d": (lambda outputs: nn.Conv2d(3, outputs, 2), (3, 2, 2)),
    "conv_transpose1d": (lambda outputs: nn.ConvTranspose1d(3, outputs, 2, stride=2), (3, 1)),
    "conv_transpose2d": (lambda outputs: nn.ConvTranspose2d(3, outputs, 2), (3, 1, 1)),
}
SPREADS = {"ordinary": 0, "wide": 90}


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    "name", ["mxint8", "mxfp4<4>", "mxfp8_e5m2", "block<log<4>,e8m0,3>", "ternary<mean>", "residual<2>"]
)
def test_a_bias_is_added_exactly(name: str, layer: str, spread: str) -> None:
    """Of a product that is zero, the result is the bias; whole blocks, part of one, and part of the last one."""
    make, shape = LAYERS[layer]
    for outputs in (4, 5, 37):
        torch.manual_seed(outputs)
        model = make(outputs).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
            bias = torch.randn(outputs) * 2.0 ** torch.randint(-SPREADS[spread], SPREADS[spread] + 1, (outputs,))
            bias[1] = 0
            model.bias.copy_(bias)  # type: ignore[union-attr, operator]
        formats = {"default": {"input": "fixed<8,4>", "weight": "fixed<8,6>", "bias": name}}
        x = torch.randn(2, *shape)
        design = gw.compile(model, (x[:1],), formats)
        is_scaled = isinstance(parse_format(name), ScaledSigns)
        wanted = (scaled_fractions if is_scaled else as_fractions)(bias, name)
        golden, module = design(x), design.module(x).double()
        for channel, value in enumerate(wanted):
            assert set(golden[:, channel].flatten().tolist()) == {float(value)}
        assert torch.equal(golden, module)


@pytest.mark.parametrize("name", ["mxint8", "nvfp4", "block<e4m3,e8m0,4>"])
def test_a_bias_in_blocks_of_a_product_of_blocks(name: str) -> None:
    """The bias moves every result by its own exact value."""
    torch.manual_seed(1)
    model = nn.Linear(16, 6).eval()
    x = torch.randn(4, 16)
    formats = {"default": {"input": "mxint8<8>", "weight": "mxint8<8>", "bias": name}}
    design = gw.compile(model, (x[:1],), formats)
    without = nn.Linear(16, 6, bias=False)
    without.weight = model.weight
    moved = design(x) - gw.compile(without, (x[:1],), formats)(x)
    format = parse_format(name)
    assert isinstance(format, GroupFormat)
    wanted = format.quantize(model.bias.detach().double().numpy())
    np.testing.assert_array_equal(moved.numpy(), np.broadcast_to(wanted, moved.shape))


@pytest.mark.parametrize("accumulator", [None, "fixed<12,6>", "fixed<16,8> floor wrap"])
@pytest.mark.parametrize("name", ["mxint8", "mxfp4", "nvfp4", "mxfp8_e5m2"])
def test_numbers_of_blocks_in_a_window(name: str, accumulator: str | None) -> None:
    """An operator that makes no product reads blocks through the accumulator's window, `fixed<24,15>` by default."""

    class Twice(nn.Module):
        """The sum of two inputs."""

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    generator = torch.Generator().manual_seed(2)
    x, y = (torch.randn(5, 6, generator=generator) * 2.0 ** torch.randint(-12, 12, (5, 1)) for _ in range(2))
    formats = {"default": {"input": name} | ({"accumulator": accumulator} if accumulator else {})}
    design = gw.compile(Twice(), (x[:1], y[:1]), formats)
    format, spec = parse_format(name), gw.format(accumulator or "fixed<24,15>")
    assert isinstance(format, Block)
    numbers = [spec.quantize(format.quantize(each.double().numpy(), -1)) for each in (x, y)]
    np.testing.assert_array_equal(design(x, y).numpy(), numbers[0] + numbers[1])
    assert torch.equal(design.module(x, y).double(), design(x, y))
    design.verify(x, y, stalls="both")


def test_short_axes_are_one_block() -> None:
    """A block that is longer than its axis is as long as that; the two are the same numbers."""
    torch.manual_seed(4)
    x, model = torch.randn(5, 6), nn.Linear(6, 3)
    formats = {"default": {"input": "mxint8", "weight": "mxint8", "bias": "fixed<8,4>"}}
    short = {"default": {"input": "mxint8<6>", "weight": "mxint8<6>", "bias": "fixed<8,4>"}}
    assert torch.equal(gw.compile(model, (x,), formats)(x), gw.compile(model, (x,), short)(x))
    assert torch.equal(gw.format("mxint8").quantize(x), gw.format("mxint8<6>").quantize(x))


class Cast(nn.Module):
    """A model that casts its operands itself."""

    def __init__(self, formats: tuple[str, str], axes: tuple[int, int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 6))
        self.formats, self.axes = formats, axes

    def forward(self, x: Tensor) -> Tensor:
        weight = gw.cast(self.weight, self.formats[1], axis=self.axes[1])
        return gw.cast(x, self.formats[0], axis=self.axes[0]) @ weight


@pytest.mark.parametrize(
    "formats",
    [("mxint8", "mxint8"), ("fixed<8,4>", "fixed<8,4>"), ("e4m3", "block<e2m1,e8m0,2x3>"), ("e4m3", "ternary<mean>")],
)
def test_casts_in_the_model_before_a_matrix_product(formats: tuple[str, str]) -> None:
    """The constant stands transposed in the graph; its cast, made in the model's order of axes, moves with it."""
    torch.manual_seed(7)
    x, axes = torch.randn(5, 2, 6), (-1, -1 if "x" in formats[1] and "2x3" in formats[1] else 0)
    formats = (formats[0], "block<e2m1,e8m0,3x2>") if "2x3" in formats[1] else formats
    model = Cast(formats, axes)
    design = gw.compile(model, (x,), None)
    found = design(x)
    assert torch.equal(design.module(x).double(), found)
    np.testing.assert_allclose(found.numpy(), model(x).detach().double().numpy(), atol=1e-3)


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ((-1, 1), "x has its blocks along axis -1 and weight has its blocks along axis -1"),
        ((-1, 1), "the product sums axis -1 of x [6, 6] with axis -2 of weight [6, 6]"),
        ((-1, 1), 'write gw.cast(weight, "mxint8<6>", axis=-2), directly'),
        ((1, 0), 'write gw.cast(x, "mxint8<6>", axis=-1), directly'),
        ((1, 1), 'write gw.cast(x, "mxint8<6>", axis=-1) and gw.cast(weight, "mxint8<6>", axis=-2), directly'),
    ],
)
def test_axes_that_differ(axes: tuple[int, int], words: str) -> None:
    """The error names both operands, both axes, and what to write."""
    with pytest.raises(gw.GatewrightError) as caught:
        gw.compile(Cast(("mxint8<6>", "mxint8<6>"), axes), (torch.randn(5, 6, 6),), None)
    assert caught.value.code == "GW0386"
    assert words in str(caught.value)


SCALES = ["e5m0", "e4m3", "e5m2", "bfloat16", "log<6>", "ufixed<8,6>", "fixed<8,4>"]


@pytest.mark.parametrize("scale", SCALES)
def test_every_kind_of_scale(scale: str) -> None:
    """Powers of two, floats, logarithms and fixed point as scales: quantised in a stream, multiplied, simulated."""
    torch.manual_seed(8)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    x = torch.randn(6, 8) * 4
    name = f"block<e2m1,{scale},4>"
    roles = {"input": name, "weight": name, "bias": "fixed<10,4>"}
    rules: dict[str, dict[str, object]] = {"default": {**roles}, "name": {"input": {"input": "fixed<8,4>"}}}
    if "fixed" in scale:
        # Of weights and of the model's inputs, which are not divided in the hardware.
        with pytest.raises(gw.GatewrightError, match="is fixed point, a scale for weights and for inputs"):
            gw.compile(model, (x[:1],), rules)
        rules = {"default": {**roles}, "name": {"2": {"input": "fixed<8,4>"}}}
    design = gw.compile(model, (x[:1],), rules)
    with torch.no_grad():
        assert torch.equal(design.module(x).double(), design(x))
    for stalls in ("none", "both"):
        design.verify(x[:3], stalls=stalls)


@pytest.mark.parametrize("scale", ["log<6>", "ufixed<8,6>", "e4m3"])
def test_scales_are_the_largest_magnitude_by_the_largest_element(scale: str) -> None:
    """By rational arithmetic: scale = amax / largest, rounded, not below its smallest normal; elements follow."""
    format = parse_format(f"block<e2m1,{scale},4>")
    assert isinstance(format, Block)
    generator = np.random.default_rng(0)
    values = generator.standard_normal((200, 4)) * 2.0 ** generator.integers(-4, 5, (200, 1))
    for row, found in zip(values, format.quantize(values, -1), strict=True):
        numbers = [Fraction(float(each)) for each in row]
        wanted = max(abs(each) for each in numbers) / format.element.largest
        size = max(format.scale.decode_fraction(format.scale.encode_fraction(wanted)), format.scale.smallest_normal)
        exact = [format.element.decode_fraction(format.element.encode_fraction(each / size)) * size for each in numbers]
        assert [Fraction(float(each)) for each in found] == exact
