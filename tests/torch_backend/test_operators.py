"""Every operator's samples: the printed module equals the golden model, and so does emulation on tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gatewright.backends.torch.build import build_module
from gatewright.backends.torch.emulate import emulate
from gatewright.backends.torch.expressions import to_host
from gatewright.ir.operator import Sample, operators
from gatewright.ir.ops.cast import Cast
from gatewright.ir.transforms.legalise import legalise
from gatewright.sim.golden import evaluate
from tests.torch_backend.samples import random_reals, sample_graph

ALL = [
    pytest.param(sample, id=f"{name}-{index}")
    for name, cls in sorted(operators().items())
    for index, sample in enumerate(cls.samples())
]


def is_printed(sample: Sample) -> bool:
    """Whether the operator occurs at the tensor level; the purely integer primitives do not."""
    return type(sample.op).__name__ not in ("Map", "Contract", "Reduce")


@pytest.mark.parametrize("sample", ALL)
def test_module_and_emulation_equal_the_golden_model(sample: Sample) -> None:
    if not is_printed(sample):
        return
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
    module = build_module(graph)
    with torch.no_grad():
        found = module(*(torch.from_numpy(real).float() for real in reals))
    real = integers.outputs[0].format.decode(expected)
    np.testing.assert_array_equal(found.double().numpy(), real)
    (emulated,) = emulate(integers, [torch.from_numpy(each) for each in codes])
    np.testing.assert_array_equal(to_host(emulated), expected)
