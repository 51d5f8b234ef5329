"""Random networks in random formats of every kind, with special values: module, golden model and hardware agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gatewright.api import Design, quantised_graph
from gatewright.diagnostics import GatewrightError
from gatewright.frontend.importer import import_model
from gatewright.ir.formats import Block, ScalarFormat
from gatewright.ir.intervals import IntegerArray
from gatewright.ir.streams.folding import serial_interval
from gatewright.ir.targets import Target
from gatewright.ir.transforms.legalise import legalise
from gatewright.ir.transforms.prepare import prepare
from gatewright.schedule import prepared, schedule
from tests.conformance.batch import Member, check_batch, member
from tests.conformance.cases import fastest_interval
from tests.conformance.random_formats import draw_all_formats
from tests.conformance.random_models import RandomModel, draw_inputs, draw_model
from tests.conv.networks import RandomNetwork

DESIGNS = 200
IN_A_BATCH = 10
SAMPLES = 12
LONGEST = 2000
REFUSED = {"GW0229", "GW0232", "GW0335", "GW0343", "GW0353", "GW0380", "GW0383", "GW0384", "GW0386"}
"""What some combinations are refused with; another one is drawn instead."""


class Small(nn.Module):
    """Two convolutions whose channels are made of blocks, and a classifier."""

    shape = (8, 3, 4)

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Conv2d(8, 8, (2, 3), padding=(1, 0), groups=1 + seed // 3 % 2)
        self.second = nn.Conv2d(8, 4, 2, stride=(2, 1), bias=False)
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Of [batch, 8, 3, 4]."""
        return self.last(self.second(torch.relu(self.first(x))).flatten(1))


def network(seed: int) -> tuple[nn.Module, list[Tensor]]:
    """A dense model, a convolutional one, or one whose layers take blocks, and a batch of inputs."""
    if seed % 3 == 0:
        model = draw_model(seed)
    else:
        module = Small(seed) if seed % 3 == 1 else RandomNetwork(seed)
        model = RandomModel(module.eval(), (module.shape,), seed, str(module))  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter.mul_(2.0).clamp_(-1.75, 1.75)
    return model.module, draw_inputs(model, SAMPLES, seed)


def accepted(model: nn.Module, inputs: list[Tensor], seed: int) -> tuple[Design, str]:
    """The model in the first random formats that it may be in, and what they are."""
    graph = prepare(import_model(model, tuple(each[:2] for each in inputs)))
    layers = {node.location.module for node in graph.nodes}
    for salt in range(50):
        formats = draw_all_formats(model, layers, 1000 * seed + salt)
        try:
            original, graph = quantised_graph(model, tuple(each[:2] for each in inputs), formats)
            legalised = legalise(graph)
            fastest = fastest_interval(legalised.graph)
            serial = serial_interval(prepared(legalised.graph).graph)
            interval = max(fastest, min(LONGEST, (fastest, serial, (fastest + serial) // 2)[seed % 3]))
            target = Target("xcup", use_dsp=seed % 5 != 0)
            plan = schedule(legalised.graph, target, interval=interval)
        except GatewrightError as problem:
            assert {each.code for each in problem.diagnostics} <= REFUSED, f"seed {seed}, salt {salt}\n{problem}"
            continue
        if plan.interval <= LONGEST:
            return Design(original, graph, legalised, plan, target, "Random"), str(formats)
    raise AssertionError(f"seed {seed}: no formats were accepted")


def with_specials(design: Design, inputs: list[Tensor], generator: np.random.Generator) -> list[Tensor]:
    """The inputs with infinities, numbers that overflow or vanish, and NaN where the format has it."""
    found: list[Tensor] = []
    for port, real in zip(design.graph.inputs, inputs, strict=True):
        format = design.input_spec(port).format
        scale = format.scale if isinstance(format, Block) else format
        hard = [np.inf, -np.inf, 3e38, -3e38, 1e-40, -1e-40, -0.0, 464.0]
        hard += [np.nan] if isinstance(scale, ScalarFormat) and scale.has_nan else []
        chosen = torch.from_numpy(generator.random(real.shape) < 0.05)
        found.append(torch.where(chosen, torch.from_numpy(generator.choice(hard, real.shape)).float(), real))
    return found


def random_codes(design: Design, generator: np.random.Generator) -> list[IntegerArray]:
    """Codes of every port, the highest and lowest ones more often; scales close to one another."""
    found: list[IntegerArray] = []
    for value in design.integer_graph.inputs:
        assert isinstance(value.format, ScalarFormat)
        low, high = value.format.code_interval()
        codes = generator.integers(low, high + 1, (SAMPLES // 2, *value.shape))
        if value.name.endswith("_scale"):
            near = (low + high) // 2 + generator.integers(-6, 7, codes.shape)
            codes = np.where(generator.random(codes.shape) < 0.85, near, codes).clip(low, high)
        extreme = generator.choice([low, high, high - 1, (low + high) // 2], codes.shape)
        found.append(np.where(generator.random(codes.shape) < 0.1, extreme, codes))
    return found


def checked_member(seed: int, number: int) -> Member:
    """A design whose module equals its golden model, in evaluation and in training, ready for the hardware."""
    model, inputs = network(seed)
    design, formats = accepted(model, inputs, seed)
    generator = np.random.default_rng(seed)
    x = with_specials(design, inputs, generator)
    expected = design(*x)
    for training in (False, True):
        with torch.set_grad_enabled(training):
            found = design.module.train(training)(*x)
        pairs = zip(*(each if isinstance(each, tuple) else (each,) for each in (found, expected)), strict=True)
        for one, other in pairs:
            np.testing.assert_array_equal(
                one.detach().double().numpy(), other.numpy(), err_msg=f"seed {seed} {formats}"
            )
    codes = [
        np.concatenate([drawn, np.asarray(encoded)[: SAMPLES // 2]])
        for drawn, encoded in zip(random_codes(design, generator), design.encode(*x), strict=True)
    ]
    return member(f"seed {seed} in {formats}", design.integer_graph, design.interval, codes, number, design.target)


def batches() -> list[object]:
    """The seeds of every batch; all but the first are slow."""
    return [
        pytest.param(range(start, start + IN_A_BATCH), id=f"from-{start}", marks=pytest.mark.slow if start else ())
        for start in range(0, DESIGNS, IN_A_BATCH)
    ]


@pytest.mark.parametrize("seeds", batches())
def test_module_golden_and_hardware_agree_in_every_format(seeds: range) -> None:
    check_batch([checked_member(seed, number) for number, seed in enumerate(seeds)])
