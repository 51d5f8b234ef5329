"""linear: a matrix product with a bias, over the last axis."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewright.diagnostics import error
from gatewright.ir.expressions import Term
from gatewright.ir.formats import CastSpec
from gatewright.ir.operator import Operator, Sample, register
from gatewright.ir.types import Shape, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall
    from gatewright.ir.builder import Builder


@register
@dataclass(frozen=True, slots=True)
class Linear(Operator):
    """``x @ weight.T + bias`` with weight ``[out, in]``; the bias operand may be absent.

    With operands in a block format the exact product of each ``block`` inputs is rounded by the cast
    ``accumulator`` before the blocks are summed; ``wide`` says that it may take more than 53 bits.
    """

    accumulator: CastSpec | None = None
    block: int = 0
    wide: bool = False

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

    def with_bias(self, builder: Builder, total: Value, *bias: Value) -> Value:
        """The product plus the bias, where there is one."""
        if not bias:
            return total
        offset = builder.decoded(bias[0])
        (shift_total, shift_bias), frac = builder.align(total, offset)

        def add_bias(total: Term, bias: Term) -> Term:
            return shift_total(total) + shift_bias(bias)

        return builder.map(add_bias, total, offset, frac=frac)

    def torch(self, *arguments: str) -> str:
        if self.accumulator is None:
            return f"F.linear({', '.join(arguments)})"
        settings = f'{self.block}, "{self.accumulator}"' + (", wide=True" if self.wide else "")
        product = f"gw.block_linear({arguments[0]}, {arguments[1]}, {settings})"
        return " + ".join([product, *arguments[2:]])

    def text(self) -> str:
        return "" if self.accumulator is None else f"blocks of {self.block} into {self.accumulator}"

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        wide = ("fixed<8,4>", "fixed<6,4>", "fixed<8,6>")
        yield Sample(cls(), ((6,), (4, 6), (4,)), wide, constants=(1, 2))
        yield Sample(cls(), ((3, 5), (7, 5), (7,)), wide, constants=(1, 2))
        yield Sample(cls(), ((9,), (10, 9)), wide[:2], constants=(1,))
