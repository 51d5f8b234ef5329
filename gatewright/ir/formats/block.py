"""Block formats: a few elements share one scale. MX, NVFP4, block floating point, block minifloat, block log.

Sources: OCP Microscaling Formats (MX) Specification 1.0, sections 5 and 6.3; for NVFP4 the rule
scale = E4M3(amax / 6). A block that does not fill up at the end of an axis is simply shorter, which is the
same as padding it with zeros.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from gatewright.diagnostics import error
from gatewright.ir.formats.base import Format, ScalarFormat, check_integer
from gatewright.ir.formats.fixed import Exact, Fixed
from gatewright.ir.formats.floating import Float, PowerOfTwo
from gatewright.ir.formats.grouped import Axes, GroupFormat, check_generator, check_scale, divide_to_odd, normal_axes
from gatewright.ir.formats.names import (
    integer_argument,
    malformed,
    parse_format,
    register,
    register_pattern,
)
from gatewright.ir.formats.rounding import Integers, Overflow, Reals, Rounding, as_integers


@dataclass(frozen=True, slots=True)
class Block(GroupFormat):
    """`size` elements along an axis share one scale; a size of two numbers is a tile over two axes.

    A power-of-two scale follows the MX rule 2^(floor(log2 amax) - emax) within its range. Any other scale
    is amax / (largest element), cast to the scale format, but not below its smallest normal. Elements are
    cast from value / scale, exactly. NaN or infinity in a block makes the scale NaN where the scale has one;
    if it has none, NaN counts as 0 and an infinity saturates. Fixed-point elements saturate symmetrically
    by default.

    Named `block<element,scale,size>`, tiles as in `block<e4m3,e8m0,16x16>`, and by the usual names.
    """

    element: ScalarFormat
    scale: ScalarFormat
    size: int | tuple[int, ...] = 32

    def __post_init__(self) -> None:
        if isinstance(self.size, tuple) and len(self.size) == 1:
            object.__setattr__(self, "size", self.size[0])
        for size in self.sizes:
            check_integer("block size", size, 1, 1 << 30, "block")
        if isinstance(self.element, Exact) or isinstance(self.scale, Exact):
            raise error("GW0212", f"{self}: an exact result has no width", help="use a fixed format")
        if self.element.is_auto or self.scale.is_auto:
            raise error(
                "GW0212",
                f"{self}: the fraction bits inside a block cannot be auto",
                note="the shared scale already places the binary point",
                help="write them, as in block<fixed<8,6>,e8m0,32>",
            )
        check_scale(self)
        if not isinstance(self.scale, PowerOfTwo) and max(self._divisor_bits) > 24:
            raise error(
                "GW0212",
                f"{self}: the scale or the largest element has more than 24 significant bits",
                note="the exact division by a scale is made for float32 and smaller",
                help="use e8m0, e4m3, bfloat16 or float32 as the scale",
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Block size along each blocked axis."""
        return self.size if isinstance(self.size, tuple) else (self.size,)

    @property
    def _divisor_bits(self) -> tuple[int, int]:
        """Significant bits of the two numbers that encoding divides by."""
        largest = self.element.largest.numerator
        odd_part = largest // (largest & -largest)
        return self.scale.mantissa_bits - 1, odd_part.bit_length()

    @property
    def elements(self) -> int:
        """Elements of a whole block."""
        return math.prod(self.sizes)

    @property
    def bits_per_element(self) -> float:
        """Storage per element, the scale included."""
        return self.element.width + self.scale.width / self.elements

    @property
    def default_overflow(self) -> Overflow:
        return Overflow.SATURATE_SYMMETRIC if isinstance(self.element, Fixed) else Overflow.SATURATE

    def __str__(self) -> str:
        name, usual = _NAMED.get((self.element, self.scale)) or (_microscaling_name(self), 32)
        if name is None or isinstance(self.size, tuple):
            return self.structure
        return name if self.size == usual else f"{name}<{self.size}>"

    @property
    def structure(self) -> str:
        """The name that spells out element, scale and size."""
        return f"block<{self.element},{self.scale},{'x'.join(map(str, self.sizes))}>"

    def scales_shape(self, shape: tuple[int, ...], axis: Axes | None = None) -> tuple[int, ...]:
        """The shape of the scale codes of a tensor of `shape`."""
        axes = normal_axes(axis, len(self.sizes), len(shape), str(self))
        sizes = dict(zip(axes, self.sizes, strict=True))
        return tuple(-(-length // sizes.get(index, 1)) for index, length in enumerate(shape))

    def encode(
        self,
        real: object,
        axis: Axes | None = None,
        rounding: Rounding = Rounding.HALF_EVEN,
        overflow: Overflow | None = None,
        generator: np.random.Generator | None = None,
    ) -> tuple[Integers, Integers]:
        check_generator(rounding, generator)
        values = np.asarray(real, dtype=np.float64)
        axes = normal_axes(axis, len(self.sizes), values.ndim, str(self))
        scales = self.encode_scales(self._largest_magnitudes(values, axes))
        spread = self._spread(self.scale.decode(scales), values.shape, axes)
        void = np.isnan(spread)
        finite = np.isfinite(values)
        # Under a NaN scale the elements are zeros; infinities only remain where the scale has no NaN.
        usable = np.where(finite & ~void, values, np.copysign(0.0, values))
        scaled = self._divided(usable, np.where(void, 1.0, spread))
        scaled = np.where(np.isinf(values) & ~void, values, scaled)
        limit = self.default_overflow if overflow is None else overflow
        return self.element.encode(scaled, rounding, limit, generator), scales

    def encode_scales(self, amax: Reals) -> Integers:
        """Scale codes for the largest magnitudes of blocks; NaN and infinity give the NaN code."""
        if self.scale.has_nan:
            usable = np.where(np.isfinite(amax), amax, 0.0)
            codes = self._finite_scales(usable)
            return np.where(np.isfinite(amax), codes, self.scale.encode(np.full(amax.shape, np.nan)))
        top = float(self.scale.largest) * float(self.element.largest)
        return self._finite_scales(np.where(np.isinf(amax), top, np.nan_to_num(amax)))

    def _finite_scales(self, amax: Reals) -> Integers:
        if isinstance(self.scale, PowerOfTwo):
            # floor(log2) from the exponent field: a logarithm picks wrong exponents near powers of two.
            exponents = np.frexp(amax)[1].astype(np.int64) - 1 - self.element.largest_exponent
            codes = np.where(amax > 0, exponents + self.scale.exponent_bias, 0)
            return np.clip(codes, 0, self.scale.layout.largest)
        largest = self.element.largest
        # amax / (a / b) is (amax x b) / a; `b` is a power of two in every format.
        quotient = divide_to_odd(
            np.ldexp(amax, largest.denominator.bit_length() - 1),
            np.full(amax.shape, float(largest.numerator)),
        )
        codes = self.scale.encode(quotient)
        smallest = self.scale.encode_fraction(self.scale.smallest_normal)
        return np.maximum(codes, smallest)

    def _divided(self, values: Reals, scales: Reals) -> Reals:
        if isinstance(self.scale, PowerOfTwo):
            fractions, exponents = np.frexp(values)
            shifts = exponents.astype(np.int64) - (np.frexp(scales)[1] - 1)
            # A value too small for float64 still has to be seen as "not zero" by directed roundings.
            return np.ldexp(fractions, np.maximum(shifts, -1000).astype(np.int32))
        return divide_to_odd(values, scales)

    def decode(self, codes: object, scales: object, axis: Axes | None = None) -> Reals:
        elements = self.element.decode(as_integers(codes))
        axes = normal_axes(axis, len(self.sizes), elements.ndim, str(self))
        factors = self.scale.decode(as_integers(scales))
        wanted = self.scales_shape(elements.shape, axes)
        if factors.shape != wanted:
            raise error(
                "GW0213",
                f"{self}: scales of shape {factors.shape} do not fit elements of shape {elements.shape}",
                note=f"in blocks of {self.size} along axes {axes} the scales' shape is {wanted}",
                help="pass the same axis to encode and decode",
            )
        return elements * self._spread(factors, elements.shape, axes)

    def _largest_magnitudes(self, values: Reals, axes: tuple[int, ...]) -> Reals:
        """Largest magnitude per block, NaN if the block holds one; shape as `scales_shape`."""
        result = np.abs(values)
        for axis, size in zip(axes, self.sizes, strict=True):
            starts = np.arange(0, int(result.shape[axis]), size, dtype=np.int64)
            if starts.size:
                result = np.maximum.reduceat(result, starts, axis=axis)
        return result

    def _spread(self, scales: Reals, shape: tuple[int, ...], axes: tuple[int, ...]) -> Reals:
        """One scale per element."""
        for axis, size in zip(axes, self.sizes, strict=True):
            index = np.arange(shape[axis]) // size
            scales = np.take(scales, index, axis=axis)
        return scales


_E8M0 = PowerOfTwo(8)
_ALIASES: dict[str, Block] = {
    "mxfp8_e4m3": Block(Float(4, 3), _E8M0, 32),
    "mxfp8_e5m2": Block(Float(5, 2), _E8M0, 32),
    "mxfp6_e3m2": Block(Float(3, 2), _E8M0, 32),
    "mxfp6_e2m3": Block(Float(2, 3), _E8M0, 32),
    "mxfp4": Block(Float(2, 1), _E8M0, 32),
    "nvfp4": Block(Float(2, 1), Float(4, 3), 16),
}
_NAMED = {(block.element, block.scale): (name, block.sizes[0]) for name, block in _ALIASES.items()}
"""By element and scale: the usual name, and the block size that it means."""
_OTHER_SPELLINGS = {
    "mxfp8": "mxfp8_e4m3",
    "mxfp6": "mxfp6_e3m2",
    "mxfp4_e2m1": "mxfp4",
}
_INTEGER = re.compile(r"mxint(\d{1,4})")


def _microscaling_name(block: Block) -> str | None:
    """`mxint8` and its kin of other widths; they mean blocks of 32."""
    element = block.element
    if block.scale != _E8M0 or not isinstance(element, Fixed) or element.width < 2:
        return None
    return f"mxint{element.width}" if element.signed and element.frac == element.width - 2 else None


def _parse_sizes(text: str, name: str) -> int | tuple[int, ...]:
    sizes = tuple(integer_argument(part, name, "block<e4m3,e8m0,32>") for part in text.split("x"))
    return sizes[0] if len(sizes) == 1 else sizes


def _build_block(name: str, arguments: list[str]) -> Format:
    example = "block<fixed<6,5>,e8m0,16>"
    if len(arguments) != 3:
        raise malformed(name, "it needs an element format, a scale format and a size", example)
    element, scale = (parse_format(argument) for argument in arguments[:2])
    if not isinstance(element, ScalarFormat) or not isinstance(scale, ScalarFormat):
        raise malformed(name, "element and scale must be scalar formats", example)
    return Block(element, scale, _parse_sizes(arguments[2], name))


def _resized(block: Block, name: str, arguments: list[str]) -> Format:
    if not arguments:
        return block
    if len(arguments) != 1:
        raise malformed(name, "it takes at most a block size", "mxfp4<16>")
    return Block(block.element, block.scale, _parse_sizes(arguments[0], name))


def _recognise_named(head: str, name: str, arguments: list[str]) -> Format | None:
    block = _ALIASES.get(_OTHER_SPELLINGS.get(head, head))
    if block is not None:
        return _resized(block, name, arguments)
    match = _INTEGER.fullmatch(head)
    if match is None:
        return None
    width = int(match[1])
    check_integer("width", width, 2, 24, head)
    return _resized(Block(Fixed(width, width - 2), _E8M0, 32), name, arguments)


register("block", _build_block, "block<fixed<6,5>,e8m0,16>")
register_pattern(_recognise_named, (*_ALIASES, *_OTHER_SPELLINGS, "mxint8", "mxint6", "mxint4"))
