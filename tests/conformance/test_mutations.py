"""Planted faults: the comparison with golden and with the declared cycles must find every one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gatewright.backends.torch.emulate import emulate
from gatewright.backends.torch.expressions import from_host, to_host
from gatewright.backends.verilog import datapath, expressions, units
from gatewright.backends.verilog.emit import emit
from gatewright.ir import casts, scalar_ops
from gatewright.ir.builder import Builder, interval_of_codes
from gatewright.ir.expressions import ExpressionBuilder, ScalarNode, Term
from gatewright.ir.formats import CastSpec, Exact, Fixed, Format, Rounding, parse_cast
from gatewright.ir.graph import Graph
from gatewright.ir.intervals import Interval
from gatewright.ir.operator import Sample
from gatewright.ir.ops.concat import Concat
from gatewright.ir.ops.map import Map
from gatewright.ir.ops.permute import Permute
from gatewright.ir.ops.reduce import Reduce
from gatewright.ir.streams.cells import Fifo
from gatewright.ir.streams.network import Network
from gatewright.ir.types import Type
from gatewright.sim import golden
from gatewright.sim.tokens import simulate_tokens
from tests.conformance import test_semantics
from tests.conformance.batch import Member, check_batch, member
from tests.conformance.cases import inputs_of, make_case
from tests.conformance.test_semantics import check_intervals

SAMPLES = 24


@cache
def subject() -> Graph:
    """A graph with one of everything: products, a branch, roundings, a table, a reduction, movements."""
    generator = np.random.default_rng(3)
    builder = Builder("subject")
    narrow = Fixed(6, 3)
    x = builder.input("x", Type((2, 6), narrow, interval_of_codes(narrow)))
    weights = builder.integers(generator.integers(-16, 16, (5, 6)), Fixed(5, 3))
    total = builder.contract("r k, n k -> r n", x, weights)
    rounded = builder.cast(total, parse_cast("fixed<7,2> half_even saturate"))
    table = tuple(int(each) for each in generator.integers(-40, 40, 128))
    looked = builder.map(lambda term: term.lookup(-64, table), rounded, format=Fixed(7, 2))
    biased = builder.map(
        lambda a, b: a - b, looked, builder.integers(generator.integers(-9, 9, 5), Fixed(5, 2)), frac=2
    )
    moved = builder.add(Permute((1, 0)), biased)
    joined = builder.add(
        Concat(1), moved, builder.reshape(builder.cast(moved, parse_cast("fixed<5,2> floor wrap")), (5, 2))
    )
    summed = builder.add(Reduce("sum", (1,)), joined)
    residual = builder.map(lambda a, b: a + b.absolute(), joined, summed, frac=2)
    return builder.finish([residual, rounded], ["y", "z"])


def build(interval: int = 30) -> Member:
    """The subject scheduled and printed, under whatever fault is planted; its golden codes are the sound ones."""
    codes, expected = sound()
    made = member("subject", subject(), interval, codes, 0)
    return replace(made, expected=expected)


@cache
def sound() -> tuple[tuple[NDArray, ...], tuple[NDArray, ...]]:
    """Inputs, and outputs [samples, elements] computed before any fault."""
    codes = tuple(inputs_of(subject(), SAMPLES))
    outputs = golden.evaluate(subject(), codes)
    return codes, tuple(array.reshape(SAMPLES, -1) for array in outputs)


def finds_a_difference(made: Member) -> bool:
    """Whether the suite's own comparison fails; a design that does not compile raises another error."""
    try:
        check_batch([made], linted=False)
    except AssertionError:
        return True
    return False


def test_the_sound_design_passes() -> None:
    for interval in (60, 30, 5):
        assert not finds_a_difference(build(interval))


# ---- faults in what is printed -----------------------------------------------------------------
def _changed(part: str, by: str, which: str) -> Callable[[pytest.MonkeyPatch], None]:
    """Replace a piece of the SystemVerilog that one scalar operation prints."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        rule = expressions.RULES[which]

        def wrong(node: ScalarNode, operands: list[expressions.Operand]) -> str:
            text = rule(node, operands)
            assert part in text, text
            return text.replace(part, by, 1)

        patch.setitem(expressions.RULES, which, wrong)

    return plant


def _rounding(patch: pytest.MonkeyPatch) -> None:
    """Round half up where half to even is asked for."""
    rule = expressions.RULES["round"]

    def wrong(node: ScalarNode, operands: list[expressions.Operand]) -> str:
        shift, mode = node.attributes
        mode = "half_up" if mode == "half_even" else mode
        return rule(replace(node, attributes=(shift, mode)), operands)

    patch.setitem(expressions.RULES, "round", wrong)


def _dropped_carry(patch: pytest.MonkeyPatch) -> None:
    """The increment of a rounding is lost."""
    rule = expressions.RULES["round"]
    patch.setitem(expressions.RULES, "round", lambda node, operands: rule(node, operands).split(" + ")[0])


def _swapped_tile(patch: pytest.MonkeyPatch) -> None:
    """Weights in the memory with the order of outputs and inputs of a tile exchanged."""
    words = units.contract_words

    def wrong(unit: units.ContractUnit) -> NDArray:
        tiles = words(unit).reshape(-1, unit.outputs_per_beat, unit.inputs_per_beat)
        return tiles.transpose(0, 2, 1).reshape(len(tiles), -1)

    patch.setattr(units, "contract_words", wrong)


def _swapped_blocks(patch: pytest.MonkeyPatch) -> None:
    """The memory's words in reverse: blocks of outputs and beats of inputs out of order."""
    words = units.contract_words
    patch.setattr(units, "contract_words", lambda unit: words(unit)[::-1])


def _lane_order(patch: pytest.MonkeyPatch) -> None:
    """Memory words packed with lane 0 most significant."""
    pack = units.hex_words
    patch.setattr(units, "hex_words", lambda codes, width: pack(codes[:, ::-1], width))


def _table_entry(patch: pytest.MonkeyPatch) -> None:
    """Tables shifted by one entry."""
    pack = units.hex_words
    patch.setattr(units, "hex_words", lambda codes, width: pack(np.roll(codes, 1, axis=0), width))


def _narrow_signal(patch: pytest.MonkeyPatch) -> None:
    """Every signal of a datapath one bit too narrow: carries out of the top are lost."""
    declare = expressions.declaration

    def wrong(interval: Interval) -> str:
        if interval.width < 6:
            return declare(interval)
        return declare(interval).replace(f"[{interval.width - 1}:0]", f"[{interval.width - 2}:0]")

    patch.setattr(datapath, "declaration", wrong)


PRINTED = {
    "rounding": _rounding,
    "dropped carry": _dropped_carry,
    "comparison": _changed(">", "<", "max"),
    "saturation": _changed("<", ">", "min"),
    "sign": _changed(" - ", " + ", "sub"),
    "magnitude": _changed("? -", "? ", "abs"),
    "swapped tile": _swapped_tile,
    "swapped blocks": _swapped_blocks,
    "lane order": _lane_order,
    "table entry": _table_entry,
    "narrow signal": _narrow_signal,
}


@pytest.mark.parametrize("fault", sorted(PRINTED))
def test_faults_of_the_printer_are_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    PRINTED[fault](monkeypatch)
    assert finds_a_difference(build(interval=5))


# ---- faults in the network ---------------------------------------------------------------------
def with_network(made: Member, network: Network) -> Member:
    """A member with another network, printed anew."""
    plan = replace(made.plan, network=network)
    return replace(made, plan=plan, hardware=emit(network, "", plan.interval, plan.latency))


def test_a_shallow_fifo_deadlocks_or_slows() -> None:
    made = build(interval=30)
    deepest = max(
        (each for each in made.plan.network.components if isinstance(each, Fifo)), key=lambda each: each.depth
    )
    assert deepest.depth > 2
    components = tuple(
        replace(each, depth=2) if each.name == deepest.name and isinstance(each, Fifo) else each
        for each in made.plan.network.components
    )
    assert finds_a_difference(with_network(made, replace(made.plan.network, components=components)))


@pytest.mark.parametrize("name", ["interval", "latency"])
def test_a_wrong_declaration_is_found(name: str) -> None:
    made = build()
    plan = replace(made.plan, **{name: getattr(made.plan, name) + 1})
    assert finds_a_difference(replace(made, plan=plan))


def test_a_lost_pipeline_stage_is_found() -> None:
    made = build()
    components = tuple(
        replace(each, latency=each.latency + 1) if isinstance(each, units.MapUnit) else each
        for each in made.plan.network.components
    )
    network = replace(made.plan.network, components=components)
    assert simulate_tokens(network).latency > made.plan.latency
    assert finds_a_difference(replace(made, plan=replace(made.plan, network=network)))


# ---- faults in the integer level ---------------------------------------------------------------
def test_a_flipped_rounding_of_the_cast_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rational oracle of the suite notices a cast that rounds otherwise than it says."""
    original = casts.cast_term

    def wrong(term: Term, source: Format, spec: CastSpec) -> Term:
        flipped = Rounding.HALF_EVEN if spec.rounding == Rounding.HALF_UP else spec.rounding
        return original(term, source, replace(spec, rounding=flipped))

    monkeypatch.setattr(casts, "cast_term", wrong)
    with pytest.raises(AssertionError):
        test_semantics.test_casts_equal_rational_arithmetic()


@pytest.mark.parametrize("op", ["add", "mul", "max", "round", "wrap", "table"])
def test_an_interval_that_is_too_small_is_found(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One less at the top of the inferred interval: some sample reaches it."""
    row = scalar_ops.SCALAR_OPS[op]

    def infer(*arguments: object) -> Interval:
        found = row.infer(*arguments)
        return Interval(found.low, max(found.low, found.high - 1))

    monkeypatch.setitem(scalar_ops.SCALAR_OPS, op, replace(row, infer=infer))
    byte = Interval(-8, 7)
    builder = ExpressionBuilder([byte, byte])
    a, b = builder.inputs
    term = {
        "add": lambda: a + b,
        "mul": lambda: a * b,
        "max": lambda: a.maximum(b),
        "round": lambda: (a + b * 2).round(1, "half_up"),
        "wrap": lambda: (a * b).wrap(4, True),
        "table": lambda: a.lookup(-8, tuple(range(16))),
    }[op]()
    sample = Sample(Map(builder.finish(term), Exact(0)), ((9,), (9,)), ("fixed<4,0>", "fixed<4,0>"))
    case = make_case(op, sample)
    with pytest.raises(AssertionError):
        check_intervals(case.integers, inputs_of(case.integers, 64), op)


def test_a_wrong_evaluation_is_found_by_emulation(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's printer and the golden evaluation stand on their own: a fault in one shows."""
    row = scalar_ops.SCALAR_OPS["abs"]
    monkeypatch.setitem(scalar_ops.SCALAR_OPS, "abs", replace(row, evaluate=lambda _, a: a))
    codes, _ = sound()
    expected = golden.evaluate(subject(), codes)
    found = emulate(subject(), [from_host(each, torch.device("cpu")) for each in codes])
    assert any(not np.array_equal(to_host(a), b) for a, b in zip(found, expected, strict=True))
