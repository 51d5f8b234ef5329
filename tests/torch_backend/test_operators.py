"""Every operator's samples: the printed module equals the golden model, and so does emulation on tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gatewright.backends.torch.build import build_module
from gatewright.backends.torch.emulate import emulate
from gatewright.backends.torch.expressions import to_host
from gatewright.ir.operator import Operator, Sample, operators
from gatewright.ir.ops.cast import Cast
from gatewright.ir.ops.contract import Contract
from gatewright.ir.transforms.legalise import legalise
from gatewright.sim.golden import evaluate
from tests.torch_backend.samples import primitive_graph, random_reals, sample_graph

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
SAMPLES = [
    (f"{name}-{index}", sample)
    for name, cls in sorted(operators().items())
    for index, sample in enumerate(cls.samples())
]
PRINTED = [pytest.param(each, id=name) for name, each in SAMPLES if type(each.op).torch is not Operator.torch]
PRIMITIVES = [pytest.param(each, id=name) for name, each in SAMPLES if each.op.is_primitive]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("sample", PRINTED)
def test_module_and_emulation_equal_the_golden_model(sample: Sample, device: str) -> None:
    generator = np.random.default_rng(7)
    graph = sample_graph(sample, generator)
    specs = {node.inputs[0]: node.op.spec for node in graph.nodes if isinstance(node.op, Cast)}
    reals = [random_reals(specs[value], (64, *value.shape), generator) for value in graph.inputs]
    integers = legalise(graph).graph
    codes = [
        specs[value].format.encode(real, specs[value].rounding, specs[value].overflow)
        for value, real in zip(graph.inputs, reals, strict=True)
    ]
    expected = evaluate(integers, codes)[0]
    module = build_module(graph).to(device)
    with torch.no_grad():
        found = module(*(torch.from_numpy(real).float().to(device) for real in reals))
    real = integers.outputs[0].format.decode(expected)
    np.testing.assert_array_equal(found.cpu().double().numpy(), real)
    (emulated,) = emulate(integers, [torch.from_numpy(each).to(device) for each in codes])
    np.testing.assert_array_equal(to_host(emulated), expected)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("sample", PRIMITIVES)
def test_emulated_primitives_equal_the_golden_model(sample: Sample, device: str) -> None:
    generator = np.random.default_rng(11)
    graph = primitive_graph(sample, generator)
    codes = [
        generator.integers(value.interval.low, value.interval.high, size=(5, *value.shape), endpoint=True)
        for value in graph.inputs
    ]
    expected = evaluate(graph, codes)[0]
    (emulated,) = emulate(graph, [torch.from_numpy(each).to(device) for each in codes])
    np.testing.assert_array_equal(to_host(emulated), expected)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("left", "right"), [(8, 8), (16, 12), (24, 24), (30, 28), (40, 20), (50, 40)])
def test_products_are_exact_at_every_width(left: int, right: int, device: str) -> None:
    generator = np.random.default_rng(left)
    op = Contract("r k, n k -> r n")
    sample = Sample(op, ((3, 9), (7, 9)), (f"fixed<{left},4>", f"ufixed<{right},4>"), constants=(1,))
    graph = primitive_graph(sample, generator)
    (value,) = graph.inputs
    codes = generator.integers(value.interval.low, value.interval.high, size=(5, *value.shape), endpoint=True)
    codes[0] = value.interval.low
    (emulated,) = emulate(graph, [torch.from_numpy(codes).to(device)])
    np.testing.assert_array_equal(to_host(emulated), evaluate(graph, [codes])[0])
