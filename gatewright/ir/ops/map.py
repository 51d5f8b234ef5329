"""map: a scalar integer expression over broadcast operands; the only place where casts live."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from gatewright.ir.expressions import Expression
from gatewright.ir.formats import Format
from gatewright.ir.intervals import IntegerArray
from gatewright.ir.operator import Operator, Sample, broadcast_shape, register
from gatewright.ir.types import Type, Value


@register
@dataclass(frozen=True, slots=True)
class Map(Operator):
    """``expression`` applied to the operands' codes element by element; the result is in ``format``.

    Operands broadcast as in numpy, aligned at the last axis of the per-sample shape.
    """

    expression: Expression
    format: Format

    name = "map"
    is_primitive = True

    def infer(self, *operands: Value) -> Type:
        shape = broadcast_shape(self.name, [value.shape for value in operands])
        return Type(shape, self.format, self.expression.interval)

    def evaluate(self, *arrays: IntegerArray) -> IntegerArray:
        return self.expression.evaluate(*arrays)

    def text(self) -> str:
        return "{ " + "; ".join(self.expression.lines()) + " }"

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        from gatewright.ir.expressions import ExpressionBuilder
        from gatewright.ir.formats import Exact
        from gatewright.ir.intervals import Interval

        byte = Interval(-128, 127)
        builder = ExpressionBuilder([byte, byte])
        first, second = builder.inputs
        result = (first * second).round(3, "half_even").clamp(-100, 90) + first.maximum(second)
        yield Sample(cls(builder.finish(result), Exact(4)), ((3, 5), (3, 5)), ("fixed<8,4>", "fixed<8,4>"))
        builder = ExpressionBuilder([byte])
        entries = tuple(int(each) for each in np.arange(-128, 128) ** 2 // 8)
        result = builder.inputs[0].lookup(-128, entries)
        yield Sample(cls(builder.finish(result), Exact(4)), ((6,),), ("fixed<8,4>",))
