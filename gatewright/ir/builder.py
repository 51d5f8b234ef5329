"""Builds graphs: fresh names, shared equal nodes, and short forms for the primitives."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewright.diagnostics import GatewrightError, Location
from gatewright.ir.expressions import Expression, ExpressionBuilder, Term
from gatewright.ir.formats import CastSpec, Exact, Format, Real, ScalarFormat
from gatewright.ir.graph import Graph, Node
from gatewright.ir.intervals import Interval
from gatewright.ir.operator import Operator
from gatewright.ir.types import Shape, Tensor, Type, Value, fraction_bits


class Builder:
    """Builds one graph; :meth:`finish` returns it.

    Equal operations on equal operands give the same value (common subexpressions are shared).
    Names come from the current hint (:meth:`at`), made unique by a suffix.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.inputs: list[Value] = []
        self.nodes: list[Node] = []
        self._names: set[str] = set()
        self._shared: dict[tuple[Operator, tuple[Value, ...]], Value] = {}
        self._producer: dict[Value, Node] = {}
        self._streams: set[Value] = set()
        self._location = Location()
        self._hint = ""

    @contextmanager
    def at(self, location: Location, hint: str = "") -> Iterator[None]:
        """Give the values made inside this source location and name, and errors raised inside the location."""
        saved = self._location, self._hint
        self._location, self._hint = location, hint
        try:
            yield
        except GatewrightError as problem:
            raise _located(problem, location) from None
        finally:
            self._location, self._hint = saved

    @property
    def place(self) -> str:
        """The name by which a rule of ``formats`` selects the layer that is being made."""
        return self._location.module or self._hint

    def fresh(self, hint: str) -> str:
        """A name not used yet, made from ``hint``."""
        base = re.sub(r"[^A-Za-z0-9_.]", "_", hint) or "value"
        name, count = base, 1
        while name in self._names:
            count += 1
            name = f"{base}_{count}"
        self._names.add(name)
        return name

    def input(self, name: str, type: Type) -> Value:
        """A graph input."""
        value = Value(self.fresh(name), type, self._location)
        self.inputs.append(value)
        self._streams.add(value)
        return value

    def is_stream(self, value: Value) -> bool:
        """Whether ``value`` depends on a graph input; all else is constant."""
        return value in self._streams

    def adopt(self, value: Value) -> Value:
        """Use a value of another graph here as it is, without making it an input."""
        self._names.add(value.name)
        return value

    def producer(self, value: Value) -> Node | None:
        """The node of this graph that computes ``value``; None for an input."""
        return self._producer.get(value)

    def add(self, op: Operator, *operands: Value, name: str = "") -> Value:
        """Add ``op`` on ``operands`` (or find the equal one) and return its result."""
        key = (op, operands)
        if key in self._shared:
            return self._shared[key]
        try:
            type = op.infer(*operands)
        except GatewrightError as problem:
            raise _located(problem, self._location) from None
        value = Value(self.fresh(name or self._hint or op.name), type, self._location)
        node = Node(op, operands, value)
        self.nodes.append(node)
        self._shared[key] = value
        self._producer[value] = node
        if any(operand in self._streams for operand in operands):
            self._streams.add(value)
        return value

    # ---- short forms -----------------------------------------------------------------------
    def parameter(self, name: str, array: NDArray[Any], trainable: bool = True) -> Value:
        """A real constant; ``name`` is the module's parameter or buffer that it came from."""
        from gatewright.ir.ops.constant import Constant

        return self.add(Constant(Tensor(array), Real(), source=name, trainable=trainable), name=name or "constant")

    def integers(self, array: NDArray[Any] | Sequence[int] | int, format: Format, name: str = "") -> Value:
        """A constant of integer codes in ``format``."""
        from gatewright.ir.ops.constant import Constant

        return self.add(Constant(Tensor(np.asarray(array)), format, source=name), name=name or "constant")

    def constant_of(self, value: Value) -> NDArray[Any] | None:
        """The array of a value that is a constant here, else None."""
        from gatewright.ir.ops.constant import Constant

        node = self._producer.get(value)
        return node.op.data.array if node is not None and isinstance(node.op, Constant) else None

    def map(
        self, function: Callable[..., Term], *operands: Value, format: Format | None = None, frac: int = 0
    ) -> Value:
        """A ``map``: ``function`` gets a term per operand; the result is in ``format`` or exact 2^-frac."""
        builder = ExpressionBuilder([value.interval for value in operands])
        result = function(*builder.inputs)
        return self.map_expression(builder.finish(result), *operands, format=format or Exact(frac))

    def map_expression(self, expression: Expression, *operands: Value, format: Format) -> Value:
        """A ``map`` of a finished expression; the identity in the same format adds nothing."""
        from gatewright.ir.ops.map import Map

        if expression.is_identity and operands[0].format == format:
            return operands[0]
        return self.add(Map(expression, format), *operands)

    def cast(self, value: Value, spec: CastSpec) -> Value:
        """The visible loss of information: ``value`` rounded into the format of ``spec``."""
        from gatewright.ir.casts import cast_term

        if value.format == spec.format:
            return value

        def rounded(term: Term) -> Term:
            return cast_term(term, value.format, spec)

        return self.map(rounded, value, format=spec.format)

    def contract(self, equation: str, left: Value, right: Value) -> Value:
        """A sum of products; see :class:`gatewright.ir.ops.contract.Contract`.

        Where ``right`` is a constant the result's interval is the exact one of its values.
        """
        from gatewright.ir.decoding import coded_format
        from gatewright.ir.ops.contract import Contract, bound_with_constant

        weights = self.constant_of(right)
        bound = None if weights is None else bound_with_constant(equation, left, weights, right.format)
        return self.add(Contract(equation, bound, coded_format(left), coded_format(right)), left, right)

    def decoded(self, value: Value) -> Value:
        """``value`` as the exact integer itself; the value unchanged where its code is one already."""
        from gatewright.ir.decoding import decoded_integers, digits, is_plain, lowest_exponent

        if is_plain(value.format):
            return value
        frac = -lowest_exponent(value.format)
        codes = self.constant_of(value)
        if codes is not None:
            return self.integers(decoded_integers(value.format, codes), Exact(frac), value.name)

        def integer(term: Term) -> Term:
            return digits(term, value.format).integer

        return self.map(integer, value, frac=frac)

    def align(self, *values: Value) -> tuple[list[Callable[[Term], Term]], int]:
        """Shifts that bring the operands to one fraction (the largest), and that fraction."""
        fractions = [fraction_bits(value.format) for value in values]
        common = max(fractions)

        def shift(bits: int) -> Callable[[Term], Term]:
            return lambda term: term << bits

        return [shift(common - each) for each in fractions], common

    def reshape(self, value: Value, shape: Shape) -> Value:
        """The same elements in the same order under another shape."""
        from gatewright.ir.ops.reshape import Reshape

        return value if value.shape == shape else self.add(Reshape(shape), value)

    def finish(self, outputs: Sequence[Value], output_names: Sequence[str] = ()) -> Graph:
        """The graph that computes ``outputs``; nodes that nothing reads are left out."""
        needed = set(outputs)
        kept: list[Node] = []
        for node in reversed(self.nodes):
            if node.output in needed:
                kept.append(node)
                needed.update(node.inputs)
        names = tuple(output_names) or tuple(value.name for value in outputs)
        return Graph(self.name, tuple(self.inputs), tuple(outputs), tuple(reversed(kept)), names)


def interval_of_codes(format: ScalarFormat) -> Interval:
    """The interval of all codes of a scalar format."""
    low, high = format.code_interval()
    return Interval(low, high)


def _located(problem: GatewrightError, location: Location) -> GatewrightError:
    from dataclasses import replace

    return GatewrightError(
        [each if each.location is not None else replace(each, location=location) for each in problem.diagnostics]
    )
