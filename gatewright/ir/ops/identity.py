"""identity: calls that change how PyTorch stores a tensor, but not its values; they leave no trace."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewright.ir.operator import Operator, Sample, register
from gatewright.ir.types import Shape, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall
    from gatewright.ir.builder import Builder


@register
@dataclass(frozen=True, slots=True)
class Identity(Operator):
    """The operand. The import adds nothing for these calls."""

    name = "identity"
    aten = (
        "contiguous.default",
        "clone.default",
        "detach.default",
        "alias.default",
        "lift_fresh.default",
        "lift_fresh_copy.default",
        "to.dtype",
        "to.dtype_layout",
        "to.device",
        "to.other",
        "type_as.default",
        "_to_copy.default",
        "positive.default",
    )
    on_parameters = True

    def infer_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        dtype = call.get("dtype")
        if dtype is not None and not dtype.is_floating_point:
            raise call.refused(
                f"a conversion to {dtype} drops the fraction".replace("torch.", ""),
                note="values are real numbers until a format is chosen; roundings are casts",
                help='use torch.ops.gatewright.cast(x, "fixed<8,0> toward_zero") for a visible rounding',
            )
        return call.value("self")

    def decompose(self, builder: Builder, *operands: Value) -> Value:
        return operands[0]

    def torch(self, *arguments: str) -> str:
        return arguments[0]

    def text(self) -> str:
        return ""

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls(), ((6,),), ("fixed<8,4>",))
