"""Quantised graphs of every operator's samples, and random inputs for them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gatewright.ir.builder import Builder
from gatewright.ir.formats import CastSpec, Fixed, parse_cast, parse_format
from gatewright.ir.graph import Graph
from gatewright.ir.intervals import Interval
from gatewright.ir.operator import Sample
from gatewright.ir.ops.cast import Cast
from gatewright.ir.types import Type, Value


def sample_graph(sample: Sample, generator: np.random.Generator) -> Graph:
    """A quantised graph of the sample's operator alone, its constants drawn at random."""
    builder = Builder("sample")
    operands: list[Value] = []
    for index, shape in enumerate(sample.shapes):
        name = (sample.formats[index] if index < len(sample.formats) else None) or "fixed<8,4>"
        spec = parse_cast(name)
        if index in sample.constants:
            reals = random_reals(spec, shape, generator)
            value = builder.parameter(f"parameter{index}", reals)
        else:
            value = builder.input(f"x{index}", Type(shape))
        operands.append(builder.add(Cast(spec), value, name=f"operand{index}"))
    return builder.finish([builder.add(sample.op, *operands, name="result")], ["result"])


def primitive_graph(sample: Sample, generator: np.random.Generator) -> Graph:
    """An integer graph of the sample's primitive alone, its constants drawn at random."""
    builder = Builder("sample")
    operands: list[Value] = []
    for index, shape in enumerate(sample.shapes):
        name = (sample.formats[index] if index < len(sample.formats) else None) or "fixed<8,4>"
        format = parse_format(name)
        assert isinstance(format, Fixed)
        low, high = format.code_interval()
        if index in sample.constants:
            codes = generator.integers(low, high, size=shape, endpoint=True)
            operands.append(builder.integers(codes, format, name=f"constant{index}"))
        else:
            operands.append(builder.input(f"x{index}", Type(shape, format, Interval(low, high))))
    return builder.finish([sample.op.decompose(builder, *operands)], ["result"])


def random_reals(spec: CastSpec, shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.float64]:
    """Reals around the format's range, corner codes and ties included."""
    assert isinstance(spec.format, Fixed)
    low, high = spec.format.code_interval()
    size = math.prod(shape)
    codes = generator.integers(2 * low - 3, 2 * high + 4, size=size) / 2.0
    corners = np.asarray([low, high, low - 0.5, high + 0.5, 0.5, -0.5, 0.0])
    chosen = generator.random(size) < 0.3
    codes[chosen] = generator.choice(corners, size=int(chosen.sum()))
    return (codes * 2.0**-spec.format.fraction_bits).reshape(shape)
