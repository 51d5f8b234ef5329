"""expand: elements repeated along axes of extent 1."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gatewright.ir.expressions import Term
from gatewright.ir.formats import Exact
from gatewright.ir.operator import Operator, Sample, broadcast_shape, register
from gatewright.ir.types import Shape, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall
    from gatewright.ir.builder import Builder


@register
@dataclass(frozen=True, slots=True)
class Expand(Operator):
    """The operand broadcast to the per-sample ``shape``; it must have as many axes."""

    shape: Shape

    name = "expand"
    aten = ("expand.default", "expand_as.default", "broadcast_to.default", "copy.default")

    def infer_shape(self, *shapes: Shape) -> Shape:
        return broadcast_shape(self.name, [*shapes, self.shape])

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        value = call.value("src" if call.target == "copy.default" else "self")
        shape = call.result_shape()
        if not call.is_stream(value):
            raise call.refused("a constant is expanded to an input's shape", help="let it broadcast by itself")
        if len(shape) != len(value.shape):
            raise call.mixes_samples()
        return value if shape == value.shape else call.builder.add(cls(shape), value)

    def decompose(self, builder: Builder, *operands: Value) -> Value:
        (value,) = operands
        # A map broadcasts its operands: the second one only lends its shape.
        shape = builder.integers(np.zeros(self.shape, dtype=np.int64), Exact(0))

        def first(x: Term, _: Term) -> Term:
            return x

        return builder.map(first, value, shape, frac=value.frac)

    def torch(self, *arguments: str) -> str:
        return f"{arguments[0]}.expand({', '.join(map(str, (-1, *self.shape)))})"

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls((3, 5)), ((3, 1),), ("fixed<8,4>",))
        yield Sample(cls((4, 3)), ((1, 3),), ("fixed<6,4>",))
