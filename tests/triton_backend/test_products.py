"""Contractions on data that strains them: extreme codes, long sums, wide and unsigned operands, batches, windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from gatewright.backends.triton import contractions
from gatewright.backends.triton.matrices import balanced_digits, digit_count
from gatewright.ir.builder import Builder, interval_of_codes
from gatewright.ir.expressions import Term
from gatewright.ir.formats import Exact, Format, parse_format
from gatewright.ir.graph import Graph
from gatewright.ir.intervals import Interval
from gatewright.ir.ops.contract import Contract
from gatewright.ir.ops.permute import Permute
from gatewright.ir.ops.window import Window
from gatewright.ir.types import Type
from gatewright.kernels.device import LAUNCHES
from tests.conformance.cases import inputs_of
from tests.triton_backend.checks import check_program


def scalar(name: str) -> tuple[Format, Interval]:
    """A format and the interval of its codes."""
    format = parse_format(name)
    return format, interval_of_codes(format)  # type: ignore[arg-type]


def product_graph(
    equation: str, left: tuple[int, ...], right: tuple[int, ...], formats: tuple[str, str], constant: bool = True,
    follower: bool = True, extreme: bool = False,
) -> Graph:  # fmt: skip
    """A contraction, then a bias, a rounding shift and a clamp."""
    builder = Builder("product")
    (left_format, left_interval), (right_format, right_interval) = (scalar(each) for each in formats)
    x = builder.input("x", Type(left, left_format, left_interval))
    generator = np.random.default_rng(5)
    if constant:
        weights = generator.integers(right_interval.low, right_interval.high + 1, size=right)
        y = builder.integers(np.full(right, right_interval.low) if extreme else weights, right_format, "weights")
    else:
        y = builder.input("y", Type(right, right_format, right_interval))
    total = builder.contract(equation, x, y)
    if not follower:
        return builder.finish([total], ["total"])
    bias = builder.integers(generator.integers(-500, 500, size=total.shape[-1:]), Exact(8), "bias")
    result = builder.map(
        lambda s, b: (s + (b << 2)).round(5, "half_even").clamp(-300, 500), total, bias, format=Exact(3)
    )
    return builder.finish([result], ["result"])


CASES = {
    "plain": ("k, n k -> n", (37,), (11, 37), ("fixed<8,4>", "fixed<8,4>")),
    "rows": ("r k, n k -> r n", (5, 64), (40, 64), ("fixed<8,4>", "fixed<6,4>")),
    "unsigned": ("r k, n k -> r n", (3, 70), (9, 70), ("ufixed<8,8>", "fixed<8,4>")),
    "both unsigned": ("k, n k -> n", (33,), (7, 33), ("ufixed<8,8>", "ufixed<8,4>")),
    "few and unsigned": ("k, n k -> n", (6,), (5, 6), ("ufixed<8,8>", "ufixed<8,4>")),
    "wide left": ("r k, n k -> r n", (4, 20), (6, 20), ("fixed<16,4>", "fixed<8,4>")),
    "wide both": ("k, n k -> n", (21,), (6, 21), ("ufixed<16,4>", "fixed<12,4>")),
    "very wide": ("k, n k -> n", (9,), (5, 9), ("fixed<28,4>", "fixed<24,4>")),
    "beyond int64": ("k, n k -> n", (9,), (5, 9), ("fixed<40,4>", "fixed<34,4>")),
    "permuted": ("a b c, n c a -> n b", (3, 4, 5), (6, 5, 3), ("fixed<8,4>", "fixed<8,4>")),
    "depthwise": ("p k c, c k -> p c", (6, 9, 5), (5, 9), ("fixed<8,4>", "fixed<8,4>")),
    "floats": ("k, n k -> n", (12,), (4, 12), ("e4m3", "e2m1")),
}


@pytest.mark.parametrize("follower", [True, False], ids=["map", "alone"])
@pytest.mark.parametrize("case", CASES)
def test_products_with_constants(case: str, follower: bool, where: torch.device) -> None:
    equation, left, right, formats = CASES[case]
    for extreme in (False, True):
        graph = product_graph(equation, left, right, formats, follower=follower, extreme=extreme)
        check_program(graph, inputs_of(graph, 6), where)


@pytest.mark.parametrize("formats", [("fixed<8,4>", "fixed<8,4>"), ("ufixed<8,8>", "fixed<8,4>"),
                                     ("ufixed<8,8>", "ufixed<8,4>"), ("fixed<14,4>", "fixed<8,4>")])  # fmt: skip
@pytest.mark.parametrize("equation", ["h q d, h k d -> h q k", "h q k, h k d -> q h d"])
def test_products_of_two_streams(equation: str, formats: tuple[str, str], where: torch.device) -> None:
    shapes = ((2, 5, 17), (2, 7, 17)) if "q d" in equation else ((2, 5, 7), (2, 7, 17))
    graph = product_graph(equation, *shapes, formats, constant=False)
    check_program(graph, inputs_of(graph, 4), where)


@pytest.mark.parametrize("large", [1, 1 << 60], ids=["library", "printed"])
@pytest.mark.parametrize("depth", [128, 65536, 65537, 140000])
def test_long_sums_of_extreme_codes(
    depth: int, large: int, where: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contractions, "LARGE", large)
    monkeypatch.setattr(contractions, "DEEP", 1)
    graph = product_graph("k, n k -> n", (depth,), (2, depth), ("fixed<8,4>", "fixed<8,4>"), extreme=True)
    LAUNCHES.clear()
    check_program(graph, inputs_of(graph, 3), where)
    through = {kind for kind, _ in LAUNCHES}
    assert ("int8 matrix product" in through) == (large == 1 or depth > 65536)


@pytest.mark.parametrize("case", ["rows", "unsigned", "permuted", "wide both"])
def test_the_librarys_product(case: str, where: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contractions, "LARGE", 1)
    monkeypatch.setattr(contractions, "DEEP", 1)
    equation, left, right, formats = CASES[case]
    for follower in (True, False):
        graph = product_graph(equation, left, right, formats, follower=follower)
        LAUNCHES.clear()
        check_program(graph, inputs_of(graph, 40), where)
        kinds = {kind for kind, _ in LAUNCHES}
        assert "int8 matrix product" in kinds
        assert "printed map" in kinds or not (follower or case == "unsigned")


CASTS = {
    "saturate": ("fixed<8,4>", lambda s, b: (s + b).round(9, "half_even").clamp(-128, 127)),
    "symmetric": ("fixed<8,4>", lambda s, b: (s + (b << 3)).round(6, "half_up").clamp(-127, 127)),
    "unsigned": ("fixed<8,4>", lambda s, b: (s - b).round(5, "toward_zero").clamp(0, 255)),
    "relu": ("ufixed<8,8>", lambda s, b: (s + b).maximum(0).round(4, "half_away").minimum(127)),
    "wrap": ("ufixed<8,8>", lambda s, b: (s + b).round(3, "floor").wrap(8, True)),
    "wide": ("fixed<8,4>", lambda s, b: (s + b).round(2, "half_zero").clamp(-32768, 32767)),
    "exact": ("ufixed<8,8>", lambda s, b: s + (b << 4)),
}
OTHERS = {
    "another limit": lambda s, b: (s + b).round(5, "half_even").clamp(-100, 127),
    "a limit above zero": lambda s, b: (s + b).maximum(0).round(5, "floor").clamp(3, 127),
    "two roundings": lambda s, b: (s + b).round(3, "half_even").round(2, "half_even").clamp(-128, 127),
    "a product": lambda s, b: (s * b).round(12, "half_even").clamp(-128, 127),
    "a limit before": lambda s, b: (s.clamp(-900, 900) + b).round(3, "floor").clamp(-128, 127),
}


def cast_graph(format_name: str, function: Callable[..., Term], bias_shape: tuple[int, ...] = (12,)) -> Graph:
    """A product [5, 32] x [12, 32] and the map behind it."""
    builder = Builder("cast")
    generator = np.random.default_rng(7)
    format, interval = scalar(format_name)
    x = builder.input("x", Type((5, 32), format, interval))
    weight_format, _ = scalar("fixed<8,4>")
    weights = builder.integers(generator.integers(-128, 128, size=(12, 32)), weight_format, "weights")
    total = builder.contract("r k, n k -> r n", x, weights)
    bias = builder.integers(generator.integers(-5000, 5000, size=bias_shape), Exact(8), "bias")
    return builder.finish([builder.map(function, total, bias, format=Exact(3))], ["result"])


@pytest.mark.parametrize("case", [*CASTS, *OTHERS])
def test_casts_that_a_kernel_computes(case: str, where: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("LARGE", "DEEP", "FILLING"):
        monkeypatch.setattr(contractions, limit, 1)
    format_name, function = CASTS[case] if case in CASTS else ("fixed<8,4>", OTHERS[case])
    graph = cast_graph(format_name, function)
    LAUNCHES.clear()
    program = check_program(graph, inputs_of(graph, 9), where)
    assert ("integer_linear" in {kind for kind, _ in LAUNCHES}) == (case in CASTS)
    assert ("integer_linear(x, w, bias, relu=" in program.source()) == (case in CASTS)


@pytest.mark.parametrize("shape", [(1, 12), (1,), (1, 1)])
def test_biases_of_a_cast(shape: tuple[int, ...], where: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("LARGE", "DEEP", "FILLING"):
        monkeypatch.setattr(contractions, limit, 1)
    graph = cast_graph("ufixed<8,8>", CASTS["saturate"][1], shape)
    LAUNCHES.clear()
    check_program(graph, inputs_of(graph, 4), where)
    assert "integer_linear" in {kind for kind, _ in LAUNCHES}
    by_row = cast_graph("ufixed<8,8>", CASTS["saturate"][1], (5, 1))
    LAUNCHES.clear()
    check_program(by_row, inputs_of(by_row, 4), where)
    assert "integer_linear" not in {kind for kind, _ in LAUNCHES}


def test_short_sums_of_single_use(where: torch.device) -> None:
    """A depthwise product adds up element by element, also where int8 is too narrow."""
    for formats in (("fixed<8,4>", "fixed<8,4>"), ("ufixed<8,8>", "fixed<8,4>"), ("fixed<24,4>", "fixed<20,4>")):
        for extreme in (False, True):
            graph = product_graph("p k c, c k -> p c", (6, 9, 5), (5, 9), formats, extreme=extreme)
            LAUNCHES.clear()
            check_program(graph, inputs_of(graph, 7), where)
            assert {kind for kind, _ in LAUNCHES} == {"printed sum"}


def test_a_constant_on_the_left(where: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = Builder("left")
    format, interval = scalar("fixed<8,4>")
    generator = np.random.default_rng(3)
    weights = builder.integers(generator.integers(-128, 128, size=(6, 9)), format, "weights")
    x = builder.input("x", Type((9, 4), format, interval))
    graph = builder.finish([builder.add(Contract("t s, s c -> t c"), weights, x)], ["result"])
    monkeypatch.setattr(contractions, "DEEP", 1)
    for large in (1, 1 << 60):
        monkeypatch.setattr(contractions, "LARGE", large)
        check_program(graph, inputs_of(graph, 5), where)


def test_windows_are_read_where_they_lie(where: torch.device) -> None:
    builder = Builder("convolution")
    format, interval = scalar("fixed<8,4>")
    x = builder.input("x", Type((3, 9, 8), format, interval))
    moved = builder.add(Permute((1, 2, 0)), x)
    taps = builder.add(Window((3, 3), (2, 1), ((1, 1), (0, 1)), (1, 2), fill=3), moved)
    weights = np.random.default_rng(4).integers(-128, 128, size=(5, 3, 3, 3))
    total = builder.contract("y x i j c, n i j c -> n y x", taps, builder.integers(weights, format, "weights"))
    result = builder.map(lambda s: s.round(6, "half_up").clamp(0, 255), total, format=Exact(2))
    graph = builder.finish([result], ["result"])
    LAUNCHES.clear()
    check_program(graph, inputs_of(graph, 4), where)
    assert [kind for kind, _ in LAUNCHES] == ["printed pad", "printed product"]


@pytest.mark.parametrize(
    "interval", [(-128, 127), (0, 255), (-5, 250), (0, 256), (-32768, 32767), (0, 65535), (-(1 << 31), 1 << 30)]
)
def test_digits_add_up(interval: tuple[int, int]) -> None:
    bounds = Interval(*interval)
    low, high = interval
    codes = torch.tensor([low, high, 0, 1, (low + high) // 2, high - 1, min(127, high), min(128, high)])
    for offset in (False, True):
        digits = balanced_digits(codes, bounds, offset)
        assert len(digits.parts) == digit_count(bounds, offset)
        total = sum((part.long() << (8 * place) for place, part in enumerate(digits.parts)), start=digits.offset)
        assert torch.equal(total, codes)


def spoil_masked_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter loads as a GPU does: a negative ``other`` below 32 bits spreads its sign over neighbours."""
    from triton.runtime.interpreter import InterpreterBuilder

    plain = InterpreterBuilder.create_masked_load

    def load(builder: InterpreterBuilder, ptrs: Any, mask: Any, other: Any, *rest: Any) -> Any:
        if other is not None and other.data.dtype.kind in "iu" and other.data.dtype.itemsize < 4:
            signed = other.data.view(f"i{other.data.dtype.itemsize}")
            signed[(signed < 0) & (np.indices(signed.shape).sum(0) % 2 == 1)] = -1
        return plain(builder, ptrs, mask, other, *rest)

    monkeypatch.setattr(InterpreterBuilder, "create_masked_load", load)


@pytest.mark.parametrize("depth", [6, 64, 70])
@pytest.mark.parametrize("constant", [True, False])
def test_masked_lanes_count_nothing(
    depth: int, constant: bool, where: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both operands unsigned: the sums that take the offsets back out see what a masked load gives."""
    spoil_masked_lanes(monkeypatch)
    formats = ("ufixed<8,8>", "ufixed<8,4>")
    graph = product_graph("r k, n k -> r n", (5, depth), (7, depth), formats, constant, follower=False)
    LAUNCHES.clear()
    check_program(graph, inputs_of(graph, 5), where)
    assert {kind for kind, _ in LAUNCHES} == {"printed product"}
