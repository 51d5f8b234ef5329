"""Operators' samples as graphs, and the codes that every check feeds them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gatewright.diagnostics import GatewrightError
from gatewright.ir.builder import Builder, interval_of_codes
from gatewright.ir.formats import CastSpec, ScalarFormat, parse_cast
from gatewright.ir.graph import Graph
from gatewright.ir.intervals import Interval
from gatewright.ir.operator import Operator, Sample, operators
from gatewright.ir.ops.cast import Cast
from gatewright.ir.streams.folding import serial_interval
from gatewright.ir.targets import Target
from gatewright.ir.transforms.legalise import legalise
from gatewright.ir.types import Type, Value
from gatewright.schedule import prepared, schedule
from tests.torch_backend.samples import random_reals, sample_graph

DEFAULT_FORMAT = "fixed<8,4>"


@dataclass(frozen=True, slots=True)
class Case:
    """One sample: its integer graph, and the quantised graph where the operator has real semantics."""

    label: str
    sample: Sample
    integers: Graph
    quantised: Graph | None


def is_integer_primitive(operator: type[Operator]) -> bool:
    """Whether the operator only exists on integers: it has no PyTorch text."""
    return operator.torch is Operator.torch


def sample_specs(sample: Sample) -> list[CastSpec]:
    """The cast of every operand."""
    given = [*sample.formats, *[None] * (len(sample.shapes) - len(sample.formats))]
    return [parse_cast(name or DEFAULT_FORMAT) for name in given]


def make_case(label: str, sample: Sample, seed: int = 7) -> Case:
    """The graphs of a sample, its constants drawn at random."""
    generator = np.random.default_rng(seed)
    if is_integer_primitive(type(sample.op)):
        return Case(label, sample, primitive_graph(sample, generator), None)
    quantised = sample_graph(sample, generator)
    return Case(label, sample, legalise(quantised).graph, quantised)


def primitive_graph(sample: Sample, generator: np.random.Generator) -> Graph:
    """The integer graph of a primitive alone."""
    builder = Builder("sample")
    operands: list[Value] = []
    for index, (shape, spec) in enumerate(zip(sample.shapes, sample_specs(sample), strict=True)):
        format = spec.format
        assert isinstance(format, ScalarFormat)
        interval = interval_of_codes(format)
        if index in sample.constants:
            codes = generator.integers(interval.low, interval.high + 1, size=shape)
            operands.append(builder.integers(codes, format, name=f"constant{index}"))
        else:
            operands.append(builder.input(f"x{index}", Type(shape, format, interval)))
    return builder.finish([builder.add(sample.op, *operands, name="result")], ["result"])


def all_cases(operator: type[Operator]) -> list[Case]:
    """Every sample of an operator."""
    return [make_case(f"{operator.name}[{index}]", sample) for index, sample in enumerate(operator.samples())]


def sampled_operators() -> list[type[Operator]]:
    """Operators that have samples, by name."""
    return [cls for _, cls in sorted(operators().items()) if any(True for _ in cls.samples())]


def codes_of(interval: Interval, shape: Sequence[int], samples: int, generator: np.random.Generator) -> NDArray:
    """Codes [samples, *shape]: corners in the first samples, all codes where they are few, the rest random.

    The first sample is all low, the second all high, the third alternates, so that sums reach their bounds.
    """
    size = math.prod(shape)
    low, high, step = interval.low, interval.high, max(interval.step, 1)
    first = -(-low // step)
    count = high // step - first + 1
    # Python integers: an interval may be wider than int64.
    drawn = [(first + int(generator.random() * count)) * step for _ in range(samples * size)]
    corners = [code for code in (low, high, 0, step, -step, low + step, high - step) if low <= code <= high]
    for position in generator.permutation(samples * size)[: samples * size // 4]:
        drawn[position] = corners[int(generator.integers(len(corners)))]
    if count <= (samples - 3) * size:
        every = [(first + k) * step for k in range(count)]
        drawn[3 * size : 3 * size + count] = [every[k] for k in generator.permutation(count)]
    drawn[:size] = [low] * size
    drawn[size : 2 * size] = [high] * size
    drawn[2 * size : 3 * size] = [(low, high)[k % 2] for k in range(size)]
    fits = max(abs(low), abs(high)) < 1 << 62
    return np.array(drawn, dtype=np.int64 if fits else object).reshape(samples, *shape)


def inputs_of(graph: Graph, samples: int, seed: int = 11) -> list[NDArray]:
    """Codes for every input of an integer graph."""
    generator = np.random.default_rng(seed)
    return [codes_of(value.interval, value.shape, samples, generator) for value in graph.inputs]


def tilings(graph: Graph) -> dict[str, int]:
    """Intervals to ask for: one element a beat, something between, and as parallel as it gets."""
    serial = serial_interval(prepared(graph).graph)
    fastest = fastest_interval(graph)
    middle = max(fastest, min(serial - 1, max(2, math.isqrt(serial * fastest))))
    return dict(sorted({"serial": serial, "middle": middle, "parallel": fastest}.items()))


def fastest_interval(graph: Graph) -> int:
    """The smallest interval that can be asked for, as the errors of smaller ones say."""
    wanted = 1
    while True:
        try:
            schedule(graph, Target(), interval=wanted)
            return wanted
        except GatewrightError as problem:
            assert problem.code == "GW0703", problem
            advice = re.search(r"interval=(\d+)", problem.diagnostics[0].help)
            assert advice is not None, problem
            assert int(advice[1]) > wanted, problem
            wanted = int(advice[1])


def port_specs(graph: Graph) -> dict[str, CastSpec]:
    """The cast at every input of a quantised graph of one operator."""
    return {node.inputs[0].name: node.op.spec for node in graph.nodes if isinstance(node.op, Cast)}


__all__ = ["Case", "all_cases", "codes_of", "inputs_of", "random_reals", "sampled_operators", "tilings"]
