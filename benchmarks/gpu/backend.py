"""Models as printed kernels: the golden model at the GPU's speed, every result checked against exact arithmetic."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.gpu.measure import Context, Row, milliseconds
from examples.lenet import LeNet
from examples.mlperf_tiny import resnet8
from gatewright.backends.torch.build import build_module
from gatewright.backends.torch.emulate import emulate
from gatewright.backends.triton.golden import GoldenProgram
from gatewright.backends.triton.inference import Inference
from gatewright.backends.triton.program import Program
from gatewright.frontend.importer import import_model
from gatewright.frontend.quantise import quantise
from gatewright.ir.builder import Builder
from gatewright.ir.formats import Exact, Fixed
from gatewright.ir.graph import Graph
from gatewright.ir.intervals import Interval
from gatewright.ir.ops.contract import Contract
from gatewright.ir.ops.reduce import Reduce
from gatewright.ir.transforms.legalise import legalise
from gatewright.ir.transforms.prepare import prepare
from gatewright.ir.types import Type
from gatewright.kernels.integer_product import reference_limit, reference_round
from gatewright.sim import golden

CHECKED = 4
"""Samples of a large batch that the golden model recomputes on the host."""


def rows(context: Context) -> Iterator[Row]:
    """Contractions, maps, rows and whole models."""
    yield from contraction_rows(context)
    yield from long_sum_rows(context)
    yield from bandwidth_rows(context)
    yield from model_rows()


def contraction(depth: int, columns: int, codes: np.ndarray, bits: int = 8) -> Graph:
    """x . w^T with a bias, rounded to 8 bits; x has ``bits`` bits."""
    builder = Builder("contraction")
    low = -(1 << (bits - 1))
    x = builder.input("x", Type((depth,), Fixed(bits, 4), Interval(low, -low - 1)))
    weights = builder.integers(codes, Fixed(8, 4), "weights")
    total = builder.add(Contract("k, n k -> n"), x, weights)  # bounded by formats: quicker than by values
    bias = builder.integers(np.arange(columns) % 200 - 100, Exact(8), "bias")
    result = builder.map(lambda s, b: (s + b).round(12, "half_even").clamp(-128, 127), total, bias, format=Fixed(8, 4))
    return builder.finish([result], ["result"])


def exact_contraction(x: Tensor, weights: Tensor) -> Tensor:
    """What ``contraction`` computes for every sample: float64 sums below 2^53 are exact."""
    bias = torch.arange(len(weights), device=x.device) % 200 - 100
    total = (x.double() @ weights.double().T).long() + bias
    return reference_limit(reference_round(total, 12, "half_even"), 8, True, "saturate")


def equals_golden(graph: Graph, codes: Tensor, found: Tensor, samples: int = CHECKED) -> bool:
    """The first and last samples against the golden model on the host."""
    chosen = [*range(samples), *range(len(codes) - samples, len(codes))]
    (expected,) = golden.evaluate(graph, [codes[chosen].cpu().numpy().astype(np.int64)])
    return bool((found[chosen].cpu().numpy() == expected).all())


def contraction_rows(context: Context, many: int = 4096, size: int = 8192) -> Iterator[Row]:
    """Large contractions, codes to codes, held against the library's bare int8 product."""
    weights = np.random.default_rng(0).integers(-128, 128, size=(size, size))
    x8 = [torch.randint(-128, 128, (many, size), device="cuda").to(torch.int8) for _ in range(3)]
    w8 = torch.from_numpy(weights).to(torch.int8).cuda()
    operations = 2.0 * many * size * size
    library = milliseconds(lambda x: torch._int_mm(x, w8.t()), [(x,) for x in x8], 20.0)
    yield context.compute_row("backend", f"M={many} int8 -> int32", "_int_mm", library, operations)
    for bits, goal in ((8, 0.8), (16, None)):
        graph = contraction(size, size, weights, bits)
        program = Program(graph)
        inputs = x8 if bits == 8 else [(x.to(torch.int16) << 8) + x.roll(1, 0) for x in x8]
        (found,) = program(inputs[0])
        taken = milliseconds(lambda x, program=program: program(x)[0], [(x,) for x in inputs], 20.0)
        yield context.compute_row(
            "backend", f"M={many} fixed<{bits}> x fixed<8>, bias, cast", "program", taken, operations,
            goal="80% of _int_mm" if goal else "", met=library / taken >= goal if goal else None,
            correct=equals_golden(graph, inputs[0], found)
            and torch.equal(found.long(), exact_contraction(inputs[0], w8)),
            note=f"{library / taken:.2f}x _int_mm",
        )  # fmt: skip


def long_sum_rows(context: Context, many: int = 512, columns: int = 256, depth: int = 65536) -> Iterator[Row]:
    """Adversarial data: every product is the largest, and the sums are the longest that one int32 holds."""
    graph = contraction(depth, columns, np.full((columns, depth), -128))
    program = Program(graph)
    x = torch.full((many, depth), -128, dtype=torch.int8, device="cuda")
    x[1::2] = 127
    x[:, ::2] = torch.where(torch.arange(many, device="cuda")[:, None] % 3 == 0, 127, x[:, ::2])
    (found,) = program(x)
    weights = torch.full((columns, depth), -128, dtype=torch.int8, device="cuda")
    operations, what = 2.0 * many * columns * depth, f"M={many} N={columns} K={depth} extreme codes"
    library = milliseconds(lambda x: torch._int_mm(x, weights.t()), [(x,)] * 2, 20.0)
    yield context.compute_row("backend", what, "_int_mm", library, operations)
    taken = milliseconds(lambda x: program(x)[0], [(x,)] * 2, 20.0)
    yield context.compute_row("backend", what, "program", taken, operations, goal="80% of _int_mm",
                              met=library / taken >= 0.8, correct=equals_golden(graph, x, found)
                              and torch.equal(found.long(), exact_contraction(x, weights)),
                              note=f"{library / taken:.2f}x _int_mm")  # fmt: skip


def map_graph(width: int) -> Graph:
    """A sum of two streams, rounded, limited and looked up in a table."""
    builder = Builder("map")
    type = Type((width,), Fixed(8, 4), Interval(-128, 127))
    first, second = builder.input("first", type), builder.input("second", type)
    table = [(code * code) >> 7 for code in range(-128, 128)]
    result = builder.map(
        lambda a, b: (a + b).round(1, "half_even").clamp(-128, 127).lookup(-128, table) - a, first, second, frac=4
    )
    return builder.finish([result], ["result"])


def normal_graph(width: int) -> Graph:
    """A row less its maximum and its rounded mean."""
    builder = Builder("rows")
    x = builder.input("x", Type((width,), Fixed(8, 4), Interval(-128, 127)))
    peak, total = builder.add(Reduce("max", (0,)), x), builder.add(Reduce("sum", (0,)), x)
    shift = width.bit_length() - 1
    result = builder.map(
        lambda v, m, s: (v + v - m - s.round(shift, "half_even")).clamp(-128, 127), x, peak, total, format=Fixed(8, 4)
    )
    return builder.finish([result], ["result"])


def bandwidth_rows(context: Context, samples: int = 32768, width: int = 4096) -> Iterator[Row]:
    """A map cluster and a reduction with its maps: bytes read and written."""
    for graph, inputs in ((map_graph(width), 2), (normal_graph(width), 1)):
        program = Program(graph)
        sets = [
            tuple(torch.randint(-128, 128, (samples, width), device="cuda", dtype=torch.int8) for _ in range(inputs))
            for _ in range(3)
        ]
        (found,) = program(*sets[0])
        last = [each[-CHECKED:].cpu().numpy().astype(np.int64) for each in sets[0]]
        (expected,) = golden.evaluate(graph, last)
        (emulated,) = emulate(graph, [each.long() for each in sets[0]])
        assert isinstance(emulated, Tensor)
        correct = bool((found[-CHECKED:].cpu().numpy() == expected).all()) and torch.equal(found.long(), emulated)
        taken = milliseconds(lambda *codes, program=program: program(*codes)[0], sets)
        moved = samples * width * (inputs + found.element_size())
        yield context.bandwidth_row(
            "backend", f"{graph.name} {samples} x {width}", "program", taken, moved, None, correct
        )


class Dense(nn.Sequential):
    """Three wide layers."""

    def __init__(self, width: int = 2048) -> None:
        super().__init__(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1024))


class Convolutions(nn.Module):
    """A small image network with a depthwise layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 3, padding=1)
        self.depthwise = nn.Conv2d(64, 64, 3, padding=1, groups=64)
        self.mix = nn.Conv2d(64, 128, 1)
        self.head = nn.Conv2d(128, 128, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.depthwise(torch.relu(self.stem(x))))
        return self.head(torch.relu(self.mix(x))).amax(dim=(2, 3))


def models() -> Iterator[tuple[str, nn.Module, tuple[int, ...], int]]:
    """(name, model, shape of a sample, batch)."""
    yield "dense 2048", Dense(), (2048,), 16384
    yield "digits", nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)), (64,), 65536
    yield "LeNet", LeNet(), (1, 8, 8), 16384
    yield "convolutions", Convolutions(), (3, 32, 32), 256
    yield "ResNet-8", *resnet8(), 1024


def model_rows() -> Iterator[Row]:
    """Whole models from reals to reals: the program, the module that runs it, and the module in PyTorch alone."""
    formats = {"default": {"input": "fixed<8,4>", "weight": "fixed<8,6>", "bias": "fixed<12,8>"}}
    for name, model, shape, batch in models():
        graph = quantise(prepare(import_model(model.eval(), (torch.randn(2, *shape),))), formats)
        legalised = legalise(graph)
        program = GoldenProgram(graph, legalised)
        module, plain = build_module(graph).cuda(), build_module(graph).cuda()
        module.infer_with(Inference(graph))
        sets = [(torch.randn(batch, *shape, device="cuda"),) for _ in range(2)]
        (codes,) = program.encode(sets[0])
        assert isinstance(codes, Tensor)
        (found,) = program.program(codes)
        assert isinstance(found, Tensor)
        (reals,) = program(*sets[0])
        (emulated,) = emulate(legalised.graph, [codes[:64].long()])
        assert isinstance(emulated, Tensor)
        correct = equals_golden(legalised.graph, codes, found, 2) and torch.equal(emulated, found[:64].long())
        calls = {"program": lambda x, program=program: program(x)[0], "module": module, "PyTorch": plain}
        for variant, call in calls.items():
            with torch.no_grad():
                same = torch.equal(call(*sets[0]).double(), reals)
                taken = milliseconds(call, sets, 20.0)
            yield Row("backend", f"{name} batch {batch}", variant, taken, batch, "M/s", correct=correct and same,
                      note=f"{batch / taken * 1e3:,.0f} samples/s")  # fmt: skip
