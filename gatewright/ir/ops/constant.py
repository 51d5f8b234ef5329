"""constant: parameters and literals."""

from __future__ import annotations

from dataclasses import dataclass

from gatewright.ir.formats import Format, Real
from gatewright.ir.intervals import IntegerArray, Interval
from gatewright.ir.operator import Operator, register
from gatewright.ir.types import Tensor, Type, Value


@register
@dataclass(frozen=True, slots=True)
class Constant(Operator):
    """An array of real numbers, or of integer codes in ``format``.

    ``source`` is the name of the module's parameter or buffer; ``trainable`` is true for parameters.
    """

    data: Tensor
    format: Format
    source: str = ""
    trainable: bool = False

    name = "constant"
    is_primitive = True

    def infer(self, *operands: Value) -> Type:
        interval = None if isinstance(self.format, Real) else Interval.of(self.data.array)
        return Type(self.data.shape, self.format, interval)

    def evaluate(self, *arrays: IntegerArray) -> IntegerArray:
        return self.data.array

    def text(self) -> str:
        return f'"{self.source}" {self.data.digest[:8]}'
