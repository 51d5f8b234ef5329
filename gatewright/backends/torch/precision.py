"""Which floating-point type computes a node exactly, from the worst case of its operands.

Trained weights change, so a constant counts with the whole range of its format, not with its values.
A node is exact in float32 where every integer that it can make, partial sums included, is at most
2^24, and in float64 up to 2^53.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gatewright.backends.torch.block_products import PRODUCT_BITS
from gatewright.backends.torch.cast import fits_float32
from gatewright.backends.torch.texts import MOVEMENTS, result_cast
from gatewright.diagnostics import GatewrightError
from gatewright.ir.accumulation import product_bits
from gatewright.ir.block_products import BlockOperator
from gatewright.ir.builder import Builder, interval_of_codes
from gatewright.ir.decoding import decoded_interval, lowest_exponent
from gatewright.ir.formats import (
    CastSpec,
    Exact,
    Fixed,
    Format,
    GroupFormat,
    Rounding,
    ScalarFormat,
    ScaledSigns,
    SignificandFormat,
)
from gatewright.ir.graph import Graph, Node
from gatewright.ir.intervals import Interval
from gatewright.ir.ops.cast import Cast
from gatewright.ir.ops.constant import Constant
from gatewright.ir.ops.map import Map
from gatewright.ir.ops.parameter_reshape import ParameterReshape
from gatewright.ir.types import Type, Value

FLOAT32_LIMIT = 1 << 24
FLOAT64_LIMIT = 1 << 53
_FRACTION_LIMIT = 100


@dataclass(frozen=True, slots=True)
class Precision:
    """How a value is computed: its worst-case type, and ``float32``, ``float64`` or ``wide`` (neither)."""

    type: Type
    dtype: str = "float32"

    @property
    def is_real(self) -> bool:
        """Whether nothing is known about the value: it is not quantised."""
        return self.type.is_real


def precisions(graph: Graph) -> dict[Value, Precision]:
    """The precision of every value of a quantised graph; unquantised parts are float32."""
    found: dict[Value, Precision] = {value: Precision(Type(value.shape)) for value in graph.inputs}
    for node in graph.nodes:
        found[node.output] = precision_of(node, [found[value] for value in node.inputs])
    return found


def of_format(shape: tuple[int, ...], format: Format, interval: Interval | None = None) -> Precision:
    """The precision of values of ``format``, which may be known to lie in ``interval``."""
    if isinstance(format, GroupFormat):
        return Precision(Type(shape, format))
    if interval is None:
        if isinstance(format, Exact) or not isinstance(format, ScalarFormat):
            return Precision(Type(shape))
        interval = interval_of_codes(format)
    if isinstance(format, SignificandFormat):
        # Every code is a short significand: what counts is how the cast holds it, not its reach in units.
        return Precision(Type(shape, format, interval), "float32" if fits_float32(CastSpec(format)) else "float64")
    return Precision(Type(shape, format, interval), _dtype(interval.magnitude, format))


def precision_of(node: Node, operands: list[Precision]) -> Precision:
    """The precision of a node's result from those of its operands."""
    op, shape = node.op, node.output.shape
    if isinstance(op, Constant):
        return of_format(shape, op.format)
    spec = op.spec if isinstance(op, Cast) else result_cast(op)
    if spec is not None:
        source = operands[0] if operands else Precision(Type(shape))
        if spec.rounding is Rounding.STOCHASTIC:
            # Made in floating point: hardware, which wide integers imitate, does not round at random.
            return _not_wide(of_format(shape, spec.format))
        return of_format(shape, spec.format, _narrowed(op, source))
    if isinstance(op, BlockOperator) and op.accumulation is not None:
        return _of_block_product(node, op, operands)
    if any(each.is_real for each in operands):
        return Precision(Type(shape))
    if isinstance(op, (*MOVEMENTS, ParameterReshape)) and isinstance(operands[0].type.format, GroupFormat):
        return of_format(shape, operands[0].type.format)
    builder = Builder("scratch")
    adopted = [builder.adopt(Value(f"operand{index}", numbers_of(each.type))) for index, each in enumerate(operands)]
    try:
        if not op.takes_codes:
            adopted = [builder.decoded(value) for value in adopted]
        result = op.decompose(builder, *adopted)
    except GatewrightError:
        return Precision(Type(shape))
    dtypes = [each.dtype for each in operands]
    for inner in builder.nodes:
        dtypes.append(_dtype(_largest(inner), inner.output.format))
    return Precision(result.type, max(dtypes, key=("float32", "float64", "wide").index))


def _not_wide(precision: Precision) -> Precision:
    return replace(precision, dtype="float64") if precision.dtype == "wide" else precision


def _of_block_product(node: Node, op: BlockOperator, operands: list[Precision]) -> Precision:
    """The sum of the windows of all blocks, and the bias."""
    settings = op.accumulate
    if any(each.is_real for each in operands[2:]):
        return Precision(Type(node.output.shape))
    blocks = op.terms(*(value.shape for value in node.inputs)) // settings.size
    builder = Builder("scratch")
    interval = interval_of_codes(settings.window).scaled(blocks)
    # Only the integers matter here, not where they stand.
    one = (1,)
    total = builder.adopt(Value("total", Type(one, Exact(settings.window.fraction_bits), interval)))
    bias = [builder.adopt(Value("bias", replace(numbers_of(each.type), shape=one))) for each in operands[2:]]
    result = op.with_bias(builder, total, *bias)
    formats = [each.type.format for each in operands[:2]]
    is_wide = product_bits(formats, settings.size) > PRODUCT_BITS
    dtype = "wide" if is_wide else max("float64", _dtype(result.interval.magnitude, result.format))
    return Precision(replace(result.type, shape=node.output.shape), dtype)


def numbers_of(type: Type) -> Type:
    """What values in a block format or a scaled one are as exact integers, whatever the scales are."""
    format = type.format
    if not isinstance(format, GroupFormat):
        return type
    parts = (format.element, format.scale)
    element, scale = (decoded_interval(each, interval_of_codes(each)) for each in parts)
    levels = format.levels if isinstance(format, ScaledSigns) else 1
    exponent = sum(lowest_exponent(each) for each in parts)
    return Type(type.shape, Exact(-exponent), (element * scale).scaled(levels))


def _narrowed(op: object, source: Precision) -> Interval | None:
    """The interval of a cast's result, where its operand's is known to be smaller than the format's."""
    if not isinstance(op, Cast) or source.type.interval is None or not isinstance(op.spec.format, ScalarFormat):
        return None
    builder = Builder("scratch")
    return builder.cast(builder.adopt(Value("operand", source.type)), op.spec).type.interval


def _largest(node: Node) -> int:
    magnitude = node.output.interval.magnitude
    if isinstance(node.op, Map):
        return max([magnitude, *(each.interval.magnitude for each in node.op.expression.nodes)])
    return magnitude


def _dtype(magnitude: int, format: Format) -> str:
    frac = format.frac if isinstance(format, Fixed | Exact) and format.frac is not None else 0
    if magnitude <= FLOAT32_LIMIT and abs(frac) <= _FRACTION_LIMIT:
        return "float32"
    return "float64" if magnitude <= FLOAT64_LIMIT else "wide"
