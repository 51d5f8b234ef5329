"""batch_norm: an affine map per channel with frozen statistics."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewright.diagnostics import error
from gatewright.ir.expressions import Term
from gatewright.ir.operator import Operator, Sample, register
from gatewright.ir.ops.batch_norm_scale import BatchNormScale
from gatewright.ir.ops.batch_norm_shift import BatchNormShift
from gatewright.ir.types import Shape, Value

if TYPE_CHECKING:
    from gatewright.ir.aten import AtenCall
    from gatewright.ir.builder import Builder


@register
@dataclass(frozen=True, slots=True)
class BatchNorm(Operator):
    """``x * scale + shift`` with constants per channel, which is the first per-sample axis.

    The import computes scale and shift from the original parameters with operators of their own, so
    that those stay trainable by their names; fold_batch_norm merges them into a neighbouring layer.
    """

    name = "batch_norm"
    aten = ("batch_norm.default", "_native_batch_norm_legit_no_training.default")
    roles = ("input", "weight", "bias")

    def infer_shape(self, *shapes: Shape) -> Shape:
        value, scale = shapes[0], shapes[1]
        if value[:1] != scale:
            raise error("GW0313", f"batch_norm: {scale} channels, but the operand is {list(value)}")
        return value

    @classmethod
    def from_aten(cls, call: AtenCall) -> Value:
        if call.get("training", False):
            raise call.refused(
                "the statistics come from the batch",
                note="a sample's result would depend on the other samples",
                help="use evaluation semantics and track_running_stats=True",
            )
        value = call.value("input")
        mean, variance = call.value("running_mean"), call.value("running_var")
        weight = () if call.get("weight") is None else (call.value("weight"),)
        bias = () if call.get("bias") is None else (call.value("bias"),)
        scale = call.builder.add(BatchNormScale(float(call["eps"])), variance, *weight, name=call.named("scale"))
        shift = call.builder.add(BatchNormShift(), mean, scale, *bias, name=call.named("shift"))
        return call.builder.add(cls(), value, scale, shift)

    def decompose(self, builder: Builder, *operands: Value) -> Value:
        value, scale, shift = operands
        ones = (1,) * (len(value.shape) - 1)
        scale = _column(builder, scale, ones)
        shift = _column(builder, shift, ones)
        fine = value.frac + scale.frac
        frac = max(fine, shift.frac)

        def affine(x: Term, s: Term, t: Term) -> Term:
            return ((x * s) << (frac - fine)) + (t << (frac - shift.frac))

        return builder.map(affine, value, scale, shift, frac=frac)

    def torch(self, *arguments: str) -> str:
        value, scale, shift = arguments
        return f"({value}.movedim(1, -1) * {scale} + {shift}).movedim(-1, 1)"

    def text(self) -> str:
        return ""

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        formats = ("fixed<8,4>", "fixed<6,4>", "fixed<8,5>")
        yield Sample(cls(), ((6,), (6,), (6,)), formats, constants=(1, 2))
        yield Sample(cls(), ((3, 5), (3,), (3,)), formats, constants=(1, 2))


def _column(builder: Builder, value: Value, ones: Shape) -> Value:
    """A constant per channel that broadcasts over the axes after the channels."""
    array = builder.constant_of(value)
    if not ones:
        return value
    if array is None:
        return builder.reshape(value, (*value.shape, *ones))
    from gatewright.ir.formats import ScalarFormat

    format = value.format
    assert isinstance(format, ScalarFormat)
    return builder.integers(array.reshape(*array.shape, *ones), format, name=value.name)
