"""linear: a matrix product with a bias, over the last axis."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewright.diagnostics import error
from gatewright.ir.accumulation import Accumulation
from gatewright.ir.block_products import BlockOperator, Grouped, factor, sum_of_blocks
from gatewright.ir.block_values import BlockValue
from gatewright.ir.operator import Sample, register
from gatewright.ir.scaled_weights import ScaledWeights, scaled_product
from gatewright.ir.types import Shape, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall
    from gatewright.ir.builder import Builder


@register
@dataclass(frozen=True, slots=True)
class Linear(BlockOperator):
    """``x @ weight.T + bias`` with weight ``[out, in]``; the bias operand may be absent.

    Operands in a block format have their blocks along the inputs.
    """

    accumulation: Accumulation | None = None

    name = "linear"
    takes_codes = True
    aten = ("linear.default",)
    roles = ("input", "weight", "bias")

    def infer_shape(self, *shapes: Shape) -> Shape:
        value, weight = shapes[0], shapes[1]
        if value[-1:] != weight[1:]:
            raise error(
                "GW0308",
                f"linear: {value[-1] if value else 'no'} input features, but the weight takes {weight[1]}",
                note=f"the operand is {list(value)}, the weight {list(weight)}",
            )
        return (*value[:-1], weight[0])

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        operands = [call.value("input"), call.value("weight")]
        if call.get("bias") is not None:
            operands.append(call.value("bias"))
        if not call.is_stream(operands[0]) or any(call.is_stream(each) for each in operands[1:]):
            raise call.refused(
                "the weight or the bias depends on an input",
                note="a linear layer multiplies a stream with constants",
                help="write the product of two streams as x @ w, and add with +",
            )
        return call.builder.add(cls(), *operands)

    def decompose(self, builder: Builder, *operands: Value) -> Value:
        value, weight = operands[0], operands[1]
        rows = [f"r{axis}" for axis in range(len(value.shape) - 1)]
        total = builder.contract(f"{' '.join([*rows, 'k'])}, n k -> {' '.join([*rows, 'n'])}", value, weight)
        return self.with_bias(builder, total, *operands[2:])

    def terms(self, *shapes: Shape) -> int:
        return shapes[0][-1]

    def block_product(self, builder: Builder, left: Value | BlockValue, right: Value | BlockValue) -> Value:
        settings = self.accumulate
        rows = " ".join(f"r{axis}" for axis in range(len(left.shape) - 1))
        first = factor(builder, f"{rows} j k", left, settings.size)
        second = factor(builder, "n j k", right, settings.size)
        return sum_of_blocks(builder, first, second, "j", settings.spec)

    def decompose_grouped(self, builder: Builder, *operands: Grouped) -> Value:
        value, weight, *bias = operands
        if isinstance(value, Value) and isinstance(weight, ScaledWeights):
            total = scaled_product(builder, weight, lambda signs: self.decompose(builder, value, signs))
        else:
            total = self.product_of_blocks(builder, operands)
        return self.with_bias(builder, total, *(each for each in bias if isinstance(each, Value)))

    def torch(self, *arguments: str) -> str:
        if self.accumulation is None:
            return f"F.linear({', '.join(arguments)})"
        product = f"gw.block_linear({arguments[0]}, {arguments[1]}, {self.accumulation.arguments()})"
        return " + ".join([product, *arguments[2:]])

    def text(self) -> str:
        return "" if self.accumulation is None else self.accumulation.text()

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        wide = ("fixed<8,4>", "fixed<6,4>", "fixed<8,6>")
        yield Sample(cls(), ((6,), (4, 6), (4,)), wide, constants=(1, 2))
        yield Sample(cls(), ((3, 5), (7, 5), (7,)), wide, constants=(1, 2))
        yield Sample(cls(), ((9,), (10, 9)), wide[:2], constants=(1,))
