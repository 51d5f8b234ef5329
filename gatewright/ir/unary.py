"""The base of nonlinear functions of one variable."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from gatewright.diagnostics import GatewrightError, error
from gatewright.ir import functions
from gatewright.ir.decoding import is_plain
from gatewright.ir.expressions import Term
from gatewright.ir.formats import CastSpec, ScalarFormat, parse_cast
from gatewright.ir.intervals import IntegerArray
from gatewright.ir.operator import Operator, Sample
from gatewright.ir.piecewise import fit, wide_operand
from gatewright.ir.types import Shape, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall
    from gatewright.ir.builder import Builder

TABLE_BITS = 12
"""Operands of at most this width are looked up; wider ones are computed by pieces."""


@dataclass(frozen=True, slots=True)
class UnaryFunction(Operator):
    """A function of one variable whose result is rounded at once into ``result``.

    Up to 12 operand bits the result is the real function's value, correctly rounded, at every code.
    Above, piecewise polynomials stay within one unit in the last place of the real function
    (:mod:`gatewright.ir.piecewise`). Subclasses set ``function``, its row in
    :mod:`gatewright.ir.functions`, and ``source``, its PyTorch text with ``{}`` for the operand.

    ``domain`` are the smallest and largest operand code that the function is made for; quantisation
    sets it to what the formats allow, so that the function stays the same when trained weights narrow
    the operand. Without it the operand's own interval counts.
    """

    result: CastSpec | None = None
    domain: tuple[int, int] | None = None

    roles = ("input",)
    result_role = "output"
    takes_codes = True
    function: ClassVar[str] = ""
    source: ClassVar[str] = ""

    def infer_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        return call.builder.add(cls(), call.value("self"))

    def decompose(self, builder: Builder, *operands: Value) -> Value:
        value = operands[0]
        if self.result is None or not isinstance(self.result.format, ScalarFormat):
            raise self._no_format(builder.place)
        spec = self.result
        if value.width > TABLE_BITS and not is_plain(value.format):
            raise wide_operand(self.function, str(value.format), spec)

        def apply(x: Term) -> Term:
            return self._term(x, value, spec)

        return builder.map(apply, value, format=spec.format)

    def _no_format(self, place: str) -> GatewrightError:
        """GW0341 of a result in no format, or in one of blocks: what to write for the layer ``place``."""
        if self.result is None:
            return error(
                "GW0341",
                f"{self.name}: the result has no number format",
                note="a nonlinear function is not exact: its result is rounded where it is computed",
                help='give `formats` an output for it, for example {"default": {"output": "fixed<8,6>"}}',
            )
        return error(
            "GW0341",
            f"{self.name}: the result is in {self.result.format}, whose numbers share scales",
            note="a nonlinear function is a table, or polynomials, of one number; its reader casts it to blocks again",
            help=f'write [name."{place}"] (or [type.{self.name}]) input = "fixed<12,8>" and output = "fixed<12,8>"',
        )

    def _term(self, x: Term, value: Value, spec: CastSpec) -> Term:
        """The function of one code; codes that are all multiples of a power of two are counted in those."""
        source = value.format
        assert isinstance(source, ScalarFormat)
        interval = value.interval
        if interval.low == interval.high:
            entry = functions.table(self.function, source, interval.low, interval.high, 1, spec)
            return x.lookup(interval.low, entry)
        low, high = self.domain or (interval.low, interval.high)
        shift = (interval.step & -interval.step).bit_length() - 1
        codes = high - low if self.domain else (high - low) >> shift
        if codes < 1 << TABLE_BITS:
            entries = functions.table(self.function, source, interval.low, interval.high, 1 << shift, spec)
            return (x >> shift).lookup(interval.low >> shift, entries)
        pieces = fit(self.function, source, low, high, spec)
        return pieces.term(x)

    def evaluate(self, *arrays: IntegerArray) -> IntegerArray:
        values = functions.FUNCTIONS[self.function].fast(np.asarray(arrays[0], dtype=np.float64))
        if self.result is None or not isinstance(self.result.format, ScalarFormat):
            return values
        target = self.result.format
        return target.decode(target.encode(values, self.result.rounding, self.result.overflow))

    def torch(self, *arguments: str) -> str:
        text = self.source.format(arguments[0])
        return text if self.result is None else f'gw.cast({text}, "{self.result}")'

    def text(self) -> str:
        domain = "" if self.domain is None else f" on [{self.domain[0]}, {self.domain[1]}]"
        return "" if self.result is None else f"to {self.result}{domain}"

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls.rounded_to("fixed<8,6>"), ((6,),), ("fixed<8,4>",))
        yield Sample(cls.rounded_to("ufixed<5,4> half_up saturate"), ((3, 5),), ("fixed<6,2>",))
        yield Sample(cls.rounded_to("fixed<10,5> floor saturate"), ((4,),), ("fixed<14,10>",))

    @classmethod
    def rounded_to(cls, result: str) -> Self:
        """The operator with a result format by name."""
        return cls(parse_cast(result))
