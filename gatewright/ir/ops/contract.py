"""contract: a sum of products over named indices (einsum)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

from gatewright.diagnostics import error
from gatewright.ir.decoding import decoded_integers, decoded_interval, lowest_exponent
from gatewright.ir.formats import Exact, Format, ScalarFormat
from gatewright.ir.intervals import INT64_BITS, IntegerArray, Interval, widen
from gatewright.ir.operator import Operator, Sample, register
from gatewright.ir.types import Shape, Type, Value

FLOAT64_EXACT = 1 << 53


@dataclass(frozen=True, slots=True)
class Indices:
    """The parsed equation: index names of both operands and of the result, and those summed over."""

    left: tuple[str, ...]
    right: tuple[str, ...]
    result: tuple[str, ...]

    @property
    def summed(self) -> tuple[str, ...]:
        """The indices that the result does not have."""
        return tuple(each for each in self.left if each not in self.result)

    @staticmethod
    def parse(equation: str) -> Indices:
        """Read ``"r k, n k -> r n"``."""
        operands, result = equation.split("->")
        left, right = operands.split(",")
        return Indices(tuple(left.split()), tuple(right.split()), tuple(result.split()))

    def sizes(self, left: Shape, right: Shape) -> dict[str, int]:
        """The extent of every index; raises GW0320 where the operands disagree."""
        sizes: dict[str, int] = {}
        for names, shape in ((self.left, left), (self.right, right)):
            fits = len(names) == len(shape)
            if not fits or any(sizes.setdefault(n, s) != s for n, s in zip(names, shape, strict=True)):
                raise error(
                    "GW0320",
                    f"contract {self}: operands of shape {list(left)} and {list(right)} do not fit",
                    note="an index must have the same extent in both operands",
                    help="check the layer's input features against the width of what feeds it",
                )
        return sizes

    def __str__(self) -> str:
        return f"{' '.join(self.left)}, {' '.join(self.right)} -> {' '.join(self.result)}"


@register
@dataclass(frozen=True, slots=True)
class Contract(Operator):
    """Exact sum of products of a stream with a constant or with another stream.

    ``equation`` names the indices, for example ``"r k, n k -> r n"``. The result's fraction is the
    sum of the operands'. ``bound`` is an interval of the result proved from the constant's values.
    ``left`` and ``right`` are the formats of operands whose codes are not the integers themselves:
    their exact decoded integers are multiplied.
    """

    equation: str
    bound: Interval | None = None
    left: ScalarFormat | None = None
    right: ScalarFormat | None = None

    name = "contract"
    is_primitive = True

    @property
    def indices(self) -> Indices:
        """The parsed equation."""
        return Indices.parse(self.equation)

    def infer(self, *operands: Value) -> Type:
        left, right = operands
        indices = self.indices
        sizes = indices.sizes(left.shape, right.shape)
        count = int(np.prod([sizes[name] for name in indices.summed], dtype=np.int64))
        product = decoded_interval(left.format, left.interval) * decoded_interval(right.format, right.interval)
        frac = -lowest_exponent(left.format) - lowest_exponent(right.format)
        return Type(tuple(sizes[name] for name in indices.result), Exact(frac), self.bound or product.scaled(count))

    def evaluate(self, *arrays: IntegerArray) -> IntegerArray:
        arrays = tuple(
            array if format is None else decoded_integers(format, array)
            for array, format in zip(arrays, (self.left, self.right), strict=True)
        )
        indices = self.indices
        names = sorted({*indices.left, *indices.right})
        letter = {name: chr(ord("a") + position) for position, name in enumerate(names)}
        subscripts: list[str] = []
        for which, array in ((indices.left, arrays[0]), (indices.right, arrays[1])):
            batch = "..." if array.ndim > len(which) else ""
            subscripts.append(batch + "".join(letter[name] for name in which))
        batch = "..." if "..." in subscripts[0] + subscripts[1] else ""
        equation = f"{subscripts[0]},{subscripts[1]}->{batch}{''.join(letter[name] for name in indices.result)}"
        return exact_einsum(equation, *arrays)

    def text(self) -> str:
        formats = ", ".join(str(each) for each in (self.left, self.right) if each is not None)
        return f'"{self.equation}"' + (f" of {formats}" if formats else "")

    @classmethod
    def samples(cls) -> Iterable[Sample]:
        yield Sample(cls("k, n k -> n"), ((6,), (4, 6)), ("fixed<8,4>", "fixed<6,4>"), constants=(1,))
        yield Sample(cls("r k, n k -> r n"), ((3, 5), (7, 5)), ("fixed<8,4>", "fixed<4,2>"), constants=(1,))
        yield Sample(cls("r k, n k -> r n"), ((2, 8), (4, 8)), ("ufixed<5,4>", "fixed<12,4>"), constants=(1,))


def bound_with_constant(equation: str, left: Value, weights: IntegerArray, right: Format) -> Interval:
    """The exact interval of the contraction of ``left`` with these codes of ``right``, over all results."""
    indices = Indices.parse(equation)
    axes = tuple(position for position, name in enumerate(indices.right) if name not in indices.result)
    weights = decoded_integers(right, weights)
    factor = decoded_interval(left.format, left.interval)
    weights = weights if weights.size else np.zeros((1,) * weights.ndim, dtype=np.int64)
    known = Interval.of(weights)
    low, high = factor.low, factor.high
    # A constant of zeros alone makes no large product, and is multiplied by large bounds all the same.
    reach = max(1, known.magnitude) * factor.magnitude * weights.size
    wide = widen(weights, Interval(-reach, reach))
    lowest = np.minimum(wide * low, wide * high).sum(axis=axes)
    highest = np.maximum(wide * low, wide * high).sum(axis=axes)
    step = factor.step * known.step
    return Interval(int(np.min(lowest)), int(np.max(highest)), step)


def exact_einsum(equation: str, left: IntegerArray, right: IntegerArray) -> IntegerArray:
    """einsum on integers, exact at any width: float64 BLAS, on limbs of the operands where 53 bits are too few."""
    if left.size == 0 or right.size == 0:
        return np.einsum(equation, left.astype(np.int64), right.astype(np.int64))
    count = _summed_terms(equation, left, right)
    largest = [max(abs(int(each.min())), abs(int(each.max()))) for each in (left, right)]
    bound = largest[0] * largest[1] * count
    if bound <= FLOAT64_EXACT:
        return _float_einsum(equation, left, right)
    bits = (53 - count.bit_length()) // 2
    if bits < 8:
        return np.einsum(equation, left.astype(object), right.astype(object), optimize=True)
    dtype = np.int64 if bound.bit_length() <= INT64_BITS else object
    total: IntegerArray | None = None
    for low, first in _limbs(left, bits, largest[0]):
        for high, second in _limbs(right, bits, largest[1]):
            part = _float_einsum(equation, first, second).astype(dtype) << (low + high)
            total = part if total is None else total + part
    assert total is not None
    return total


def _summed_terms(equation: str, left: IntegerArray, right: IntegerArray) -> int:
    """How many products one result sums."""
    operands, result = equation.split("->")
    sizes: dict[str, int] = {}
    for names, array in zip(operands.split(","), (left, right), strict=True):
        listed = names.replace("...", "")
        sizes |= dict(zip(listed, array.shape[array.ndim - len(listed) :], strict=True))
    return prod(size for name, size in sizes.items() if name not in result)


def _float_einsum(equation: str, left: IntegerArray, right: IntegerArray) -> IntegerArray:
    result = np.einsum(equation, left.astype(np.float64), right.astype(np.float64), optimize=True)
    return np.rint(result).astype(np.int64)


def _limbs(array: IntegerArray, bits: int, largest: int) -> Iterator[tuple[int, IntegerArray]]:
    """``array`` as a sum of limbs of ``bits`` bits, each with the power of two that it counts; the last is signed."""
    position = 0
    while largest >> (position + bits):
        yield position, array & ((1 << bits) - 1)
        array, position = array >> bits, position + bits
    yield position, array
