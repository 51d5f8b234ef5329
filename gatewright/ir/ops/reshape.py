"""reshape: the same elements in the same (row-major) order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewright.diagnostics import error
from gatewright.ir.intervals import IntegerArray
from gatewright.ir.operator import Operator, Sample, register
from gatewright.ir.types import Shape, Type, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall


@register
@dataclass(frozen=True, slots=True)
class Reshape(Operator):
    """The operand under the per-sample ``shape``."""

    shape: Shape

    name = "reshape"
    takes_codes = True
    aten = (
        "view.default",
        "reshape.default",
        "_unsafe_view.default",
        "flatten.using_ints",
        "unflatten.int",
        "unsqueeze.default",
        "squeeze.default",
        "squeeze.dim",
        "squeeze.dims",
    )
    on_parameters = True
    is_primitive = True

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        value = call.value("self")
        if call.is_stream(value):
            return call.builder.reshape(value, call.result_shape())
        from gatewright.ir.ops.parameter_reshape import reshaped_parameter

        return reshaped_parameter(call, value, call.results[0])

    def infer(self, *operands: Value) -> Type:
        (value,) = operands
        size = 1
        for each in self.shape:
            size *= each
        if size != value.size:
            raise error(
                "GW0306",
                f"reshape of {list(value.shape)} to {list(self.shape)}",
                note=f"{value.size} elements cannot become {size}",
                help="the per-sample element counts must agree; the batch axis stays first",
            )
        return Type(self.shape, value.format, value.type.interval)

    def evaluate(self, *arrays: IntegerArray) -> IntegerArray:
        return arrays[0].reshape(arrays[0].shape[0], *self.shape)

    def torch(self, *arguments: str) -> str:
        return f"{arguments[0]}.reshape({', '.join(map(str, (-1, *self.shape)))})"

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls((6, 4)), ((3, 8),), ("fixed<8,4>",))
        yield Sample(cls((12,)), ((2, 3, 2),), ("fixed<5,4>",))
