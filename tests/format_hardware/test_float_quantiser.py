"""Quantising floating-point streams into blocks equals the format's own encoding, special values included."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import gatewright as gw
from gatewright.ir.blocks import quantise_blocks
from gatewright.ir.builder import Builder, interval_of_codes
from gatewright.ir.float_blocks import has_float_path
from gatewright.ir.formats import Block, ScalarFormat, SignificandFormat, parse_cast, parse_format
from gatewright.ir.intervals import IntegerArray
from gatewright.ir.types import Type
from gatewright.sim import golden
from gatewright.verification import verify

SOURCES = (
    "bfloat16", "float16", "float32", "e4m3", "e5m2", "e3m4", "e2m1", "e4m3<ieee>", "e5m2<flush>", "e5m3<unsigned>",
    "log<6>", "e4m3<bias=2>", "e1m6", "e4m3<none,denormal>", "e6m9<bias=60>",
)  # fmt: skip
TARGETS = (
    "mxint8", "mxint4", "mxfp8", "mxfp8_e5m2", "mxfp6", "mxfp6_e2m3", "mxfp4", "block<fixed<6,5>,e8m0,16>",
    "block<ufixed<6,3>,e8m0,16>", "block<fixed<12,7>,e8m0,32>", "block<log<4>,e8m0,16>", "block<e3m2<flush>,e8m0,16>",
    "block<e3m2<none,denormal>,e8m0,16>", "block<ternary,e8m0,16>", "block<binary,e8m0,16>",
    "block<e2m1<unsigned>,e8m0,16>", "block<e5m10,e8m0,16>", "block<e2m1,e8m0<bias=140>,32>",
    "block<e2m1,e8m0<bias=100>,32>", "block<fixed<6,5>,e5m0,16>", "block<e4m3,e4m0,16>",
    "block<e4m3,e4m0,16> infinite", "block<fixed<6,5>,e4m0<bias=4>,16> saturate_zero", "mxint8 half_up saturate",
    "mxint8 floor", "mxfp8 floor", "mxfp4 half_up", "mxfp8_e5m2 toward_zero", "mxint8 half_even wrap", "nvfp4",
    "block<e2m1,e5m2,16>",
)  # fmt: skip


def hard_cases(format: SignificandFormat) -> IntegerArray:
    """Rows of 32 codes: all exponents apart and near, subnormals alone, ties, zeros of both signs, special values."""
    generator = np.random.default_rng(0)
    layout = format.layout
    top, mantissa = (1 << layout.magnitude_bits) - 1, layout.mantissa
    fields = (top >> mantissa) + 1
    base = generator.integers(0, fields, (700, 1))
    near = np.clip(base - generator.integers(0, 12, (700, 32)), 0, fields - 1)
    magnitudes = [(near << mantissa) | generator.integers(0, 1 << mantissa, near.shape)]
    magnitudes.append(generator.integers(0, top + 1, (100, 32)))
    magnitudes.append(generator.integers(0, 3 << mantissa, (100, 32)).clip(0, top))
    short = np.clip(generator.integers(0, fields, (200, 1)) - generator.integers(0, 12, (200, 32)), 0, fields - 1)
    # Few leading bits make ties at every grid.
    bits = generator.integers(0, 8, short.shape) << max(mantissa - 3, 0)
    magnitudes.append((short << mantissa) | (bits & ((1 << mantissa) - 1)))
    magnitudes.append(np.repeat(np.asarray([[0], [1], [layout.largest], [top]]), 32, axis=1))
    for bit in range(layout.magnitude_bits):
        magnitudes.append(np.clip((1 << bit) + generator.integers(-1, 2, (3, 32)), 0, top))
    found = np.concatenate(magnitudes)
    finite = generator.random((len(found), 1)) < 0.8
    found = np.where(finite, np.minimum(found, layout.largest), found)
    if layout.signed:
        found = found | (generator.integers(0, 2, found.shape) << layout.magnitude_bits)
    return found


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", TARGETS)
def test_quantiser_equals_encode(name: str, source: str) -> None:
    spec, format = parse_cast(name), parse_format(source)
    assert isinstance(format, SignificandFormat)
    assert isinstance(spec.format, Block)
    builder = Builder("quantiser")
    value = builder.input("x", Type((32,), format, interval_of_codes(format)))
    block = quantise_blocks(builder, value, spec)
    codes = hard_cases(format)
    elements, scales = golden.evaluate(builder.finish([block.elements, block.scales]), [codes])
    reals = format.decode(codes)
    expected, expected_scales = spec.format.encode(reals, None, spec.rounding, spec.overflow)
    np.testing.assert_array_equal(scales.reshape(expected_scales.shape), expected_scales)
    elements = elements.reshape(expected.shape)
    # A NaN has no sign once it is decoded; other paths than by exponents lose the sign of zero.
    same = (elements == expected) | np.isnan(reals)
    if not has_float_path(format, spec.format):
        same |= (reals == 0) & (spec.format.element.decode(elements) == 0)
    assert same.all(), (reals[~same][:5], elements[~same][:5], expected[~same][:5])
    np.testing.assert_array_equal(
        spec.format.decode(elements, expected_scales), spec.format.decode(expected, expected_scales)
    )


def test_values_beyond_the_scale_do_not_wrap() -> None:
    format = parse_format("bfloat16")
    assert isinstance(format, ScalarFormat)
    builder = Builder("quantiser")
    value = builder.input("x", Type((16,), format, interval_of_codes(format)))
    with pytest.raises(gw.GatewrightError) as caught:
        quantise_blocks(builder, value, parse_cast("block<fixed<6,5>,e5m0,16> wrap"))
    assert [each.code for each in caught.value.diagnostics] == ["GW0384"]


def test_nothing_is_as_wide_as_the_integers() -> None:
    format = parse_format("bfloat16")
    assert isinstance(format, ScalarFormat)
    for name, limit in (("mxint8", 17), ("mxfp8", 15), ("mxfp4", 16)):
        builder = Builder("quantiser")
        value = builder.input("x", Type((32,), format, interval_of_codes(format)))
        spec = parse_cast(name)
        assert isinstance(spec.format, Block)
        assert has_float_path(format, spec.format)
        block = quantise_blocks(builder, value, spec)
        graph = builder.finish([block.elements, block.scales])
        widths = [
            inner.interval.width
            for node in graph.nodes
            for inner in getattr(getattr(node.op, "expression", None), "nodes", ())
            if inner.op != "input"
        ]
        assert max(widths) <= limit, name


class Narrowed(nn.Module):
    """A layer whose input is a floating-point stream before it becomes blocks."""

    def __init__(self, source: str, block: str) -> None:
        super().__init__()
        self.source, self.block = source, block
        self.layer = nn.Linear(32, 6)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            self.layer.weight.copy_(torch.randn(6, 32, generator=generator))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(gw.cast(gw.cast(x, self.source), self.block))


@pytest.mark.parametrize(
    ("source", "block", "interval"),
    [
        ("bfloat16", "mxint8", 16), ("bfloat16", "mxfp8", 16), ("bfloat16", "mxfp4", 16), ("bfloat16", "mxint8", 96),
        ("bfloat16", "mxfp8", 96), ("bfloat16", "mxfp6_e2m3<16>", 16), ("float16", "mxint8<16>", 16),
        ("float16", "mxfp8_e5m2<8>", 32), ("e5m2", "mxfp4<8>", 16), ("e4m3", "nvfp4", 32),
        ("bfloat16", "block<fixed<6,5>,e6m0,8>", 16),
    ],
)  # fmt: skip
def test_hardware_equals_the_golden_model(source: str, block: str, interval: int) -> None:
    weight = {"weight": "fixed<8,5>", "bias": "fixed<8,4>"}
    design = gw.compile(Narrowed(source, block), (torch.randn(2, 32),), {"default": weight}, interval=interval)
    format = parse_format(source)
    assert isinstance(format, SignificandFormat)
    codes = hard_cases(format)
    codes = np.concatenate([codes[:6], codes[-20:], codes[::90]])
    for stalls in ("none", "input", "output", "both"):
        found = verify(design, [codes], stalls, 1)
        if stalls == "none":
            assert (found.interval, found.latency) == (design.interval, design.latency)


def test_special_values_count_the_same_in_software() -> None:
    formats = {"default": {"weight": "fixed<8,5>", "bias": "fixed<8,4>"}}
    for source, block in (("bfloat16", "mxfp8<8>"), ("e4m3", "mxint8<8>"), ("e5m2 half_even infinite", "nvfp4")):
        design = gw.compile(Narrowed(source, block), (torch.randn(2, 32),), formats)
        x = torch.randn(6, 32)
        x[0, 3], x[1, 9], x[2, 31], x[3, 0] = float("nan"), float("inf"), -float("inf"), 1e38
        with torch.no_grad():
            assert torch.equal(design.module(x).double(), design(x))
