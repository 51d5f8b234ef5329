"""How products of blocks are summed: the accumulator's window, an attribute of the operators that make them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gatewright.ir.decoding import decoded_interval
from gatewright.ir.formats import Block, CastSpec, Exact, Fixed, Format, PowerOfTwo, ScalarFormat
from gatewright.ir.intervals import Interval


@dataclass(frozen=True, slots=True)
class Accumulation:
    """How products of blocks are summed: the exact product of each ``size`` elements is rounded by ``spec``.

    ``wide``: such a product may take more than 53 bits.
    """

    spec: CastSpec
    size: int
    wide: bool = False

    @property
    def window(self) -> Fixed:
        """The fixed-point format into which the products are rounded."""
        assert isinstance(self.spec.format, Fixed)
        return self.spec.format

    def arguments(self) -> str:
        """As arguments of the torch backend's helpers; ``wide`` comes last, by name."""
        return f'{self.size}, "{self.spec}"' + (", wide=True" if self.wide else "")

    def text(self) -> str:
        """As a node's attributes."""
        return f"blocks of {self.size} into {self.spec}"


def product_bits(formats: Iterable[Format], size: int) -> int:
    """The bits of magnitude that the exact product of a block of ``size`` elements in these formats can take.

    Scales that are powers of two only move it.
    """
    bits = (size - 1).bit_length()
    for format in formats:
        element = format.element if isinstance(format, Block) else format
        if isinstance(element, ScalarFormat) and not isinstance(element, Exact):
            low, high = element.code_interval()
            bits += decoded_interval(element, Interval(low, high)).magnitude.bit_length()
        if isinstance(format, Block):
            bits += 0 if isinstance(format.scale, PowerOfTwo) else format.scale.mantissa_bits
    return bits
