"""extreme: the largest or smallest element along axes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewright.ir.operator import Operator, Sample, register
from gatewright.ir.ops.reduce import Reduce
from gatewright.ir.ops.sum import batched_axes, reduced_shape
from gatewright.ir.types import Shape, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall
    from gatewright.ir.builder import Builder


@register
@dataclass(frozen=True, slots=True)
class Extreme(Operator):
    """``kind`` (max or min) over per-sample ``axes``, which keep extent 1 where ``keep`` is true."""

    kind: str
    axes: tuple[int, ...]
    keep: bool = False

    name = "extreme"
    aten = ("amax.default", "amin.default", "max.dim", "min.dim", "max.default", "min.default")

    def infer_shape(self, *shapes: Shape) -> Shape:
        return reduced_shape(shapes[0], self.axes, self.keep)

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value | tuple[Value | None, ...]:
        value = call.value("self")
        kind = "max" if "max" in call.target else "min"
        result = call.builder.add(cls(kind, call.axes(value, call.get("dim")), bool(call.get("keepdim"))), value)
        # The overloads with one dimension also return the position, which has no hardware.
        return (result, None) if call.target.endswith(".dim") else result

    def decompose(self, builder: Builder, *operands: Value) -> Value:
        (value,) = operands
        return builder.reshape(builder.add(Reduce(self.kind, self.axes), value), self.infer_shape(value.shape))

    def torch(self, *arguments: str) -> str:
        return f"torch.a{self.kind}({arguments[0]}, {batched_axes(self.axes)}, keepdim={self.keep})"

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls("max", (0,)), ((6,),), ("fixed<8,4>",))
        yield Sample(cls("min", (1,), keep=True), ((3, 5),), ("fixed<6,4>",))
        yield Sample(cls("max", (0, 1)), ((3, 4),), ("ufixed<6,4>",))
