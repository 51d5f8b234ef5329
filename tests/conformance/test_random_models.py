"""Random models: the PyTorch module equals the golden model equals the hardware, in the declared cycles."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gatewright.backends.torch.build import build_module
from gatewright.diagnostics import Collector
from gatewright.frontend.importer import import_model
from gatewright.frontend.quantise import quantise
from gatewright.ir.formats import ScalarFormat
from gatewright.ir.graph import Graph
from gatewright.ir.ops.constant import Constant
from gatewright.ir.streams.folding import serial_interval
from gatewright.ir.transforms.legalise import input_casts, legalise
from gatewright.ir.transforms.prepare import prepare
from gatewright.schedule import prepared
from gatewright.sim import golden
from tests.conformance.batch import Member, check_batch, member
from tests.conformance.cases import fastest_interval
from tests.conformance.random_models import RandomModel, draw_formats, draw_inputs, draw_model

MODELS = 240
MODELS_IN_A_BATCH = 20
QUICK_BATCHES = 2
SAMPLES = 16


def quantised(model: RandomModel) -> Graph:
    """The model imported and quantised in its formats."""
    graph = prepare(import_model(model.module, tuple(draw_inputs(model, 3, model.seed))))
    names = {node.op.name for node in graph.nodes if not isinstance(node.op, Constant)}
    return quantise(graph, draw_formats(model.seed, sorted(names - {"batch_norm_scale", "batch_norm_shift"})))


def interval_for(graph: Graph, seed: int) -> int:
    """Serial, fully parallel or between, as the seed says."""
    serial, fastest = serial_interval(prepared(graph).graph), fastest_interval(graph)
    middle = round(math.exp(math.log(fastest) + (seed % 7) / 6 * (math.log(serial) - math.log(fastest))))
    return max(fastest, min(serial, middle))


def checked_member(seed: int, number: int) -> Member:
    """A random model whose module equals its golden model on random reals, ready for the hardware."""
    model = draw_model(seed)
    graph = quantised(model)
    integers = legalise(graph).graph
    inputs = draw_inputs(model, SAMPLES, seed + 1)
    specs = input_casts(graph, Collector())
    codes = [
        codes for port, real in zip(specs.values(), inputs, strict=True) for codes in port.encode(real.double().numpy())
    ]
    expected = golden.evaluate(integers, codes)
    with torch.no_grad():
        found = build_module(graph)(*inputs)
    for tensor, array, value in zip(
        found if isinstance(found, tuple) else (found,), expected, integers.outputs, strict=True
    ):
        assert isinstance(value.format, ScalarFormat)
        real = value.format.decode(array)
        np.testing.assert_array_equal(tensor.double().numpy(), real, err_msg=f"seed {seed}\n{model.text}")
    interval = interval_for(integers, seed)
    return member(f"seed {seed} at interval {interval}\n{model.text}\n", integers, interval, codes, number)


def batches() -> list:
    """The seeds of every batch; all but the first few are slow."""
    starts = range(0, MODELS, MODELS_IN_A_BATCH)
    return [
        pytest.param(range(start, start + MODELS_IN_A_BATCH), id=f"from-{start}", marks=marks)
        for start in starts
        for marks in [() if start < QUICK_BATCHES * MODELS_IN_A_BATCH else pytest.mark.slow]
    ]


@pytest.mark.parametrize("seeds", batches())
def test_module_golden_and_hardware_agree(seeds: range) -> None:
    check_batch([checked_member(seed, number) for number, seed in enumerate(seeds)])
