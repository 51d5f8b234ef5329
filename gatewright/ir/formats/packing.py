"""Bit-exact packed storage: codes side by side in a stream of bits, and in the words of a ROM.

Code i of width w occupies the bits [i x w, (i + 1) x w) of the stream, lowest bit first; bit j of the
stream is bit j % 8 of byte j // 8. So the even one of two 4-bit codes lies in the low nibble, as in
torch.float4_e2m1fn_x2, and negative fixed-point codes are two's complement.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gatewright.diagnostics import error
from gatewright.ir.formats.base import ScalarFormat
from gatewright.ir.formats.rounding import Integers, as_integers

Bytes = npt.NDArray[np.uint8]


def packed_size(count: int, width: int) -> int:
    """Bytes that `count` codes of `width` bits take."""
    return -(-count * width // 8)


def pack_codes(codes: object, form: ScalarFormat) -> Bytes:
    """The bytes of `codes` (any shape, in row-major order); the last byte is filled with zeros.

    Raises GW0218 for a code outside the format's interval.
    """
    flat: Integers = as_integers(codes).reshape(-1)
    low, high = form.code_interval()
    if flat.size and (int(flat.min()) < low or int(flat.max()) > high):
        raise error(
            "GW0218",
            f"these are no codes of {form}: they reach from {int(flat.min())} to {int(flat.max())}",
            note=f"its codes are the integers from {low} to {high}",
            help="pass what encode gave",
        )
    width = form.width
    if width > 62:
        return _pack_wide(flat, width)
    patterns = flat.astype(np.int64) & ((1 << width) - 1)
    if width in (8, 16, 32):
        return patterns.astype(f"<u{width // 8}").view(np.uint8)
    bits = (patterns[:, None] >> np.arange(width)) & 1
    return np.packbits(bits.astype(np.uint8).reshape(-1), bitorder="little")


def _pack_wide(flat: Integers, width: int) -> Bytes:
    total = 0
    for index, code in enumerate(flat.tolist()):
        total |= (int(code) & ((1 << width) - 1)) << (index * width)
    return np.frombuffer(total.to_bytes(packed_size(flat.size, width), "little"), dtype=np.uint8)


def unpack_codes(data: Bytes, form: ScalarFormat, shape: tuple[int, ...]) -> Integers:
    """The codes of that shape that `pack_codes` stored in `data`. GW0219 if the sizes do not agree."""
    count, width = int(np.prod(shape, dtype=np.int64)), form.width
    if data.size != packed_size(count, width):
        raise error(
            "GW0219",
            f"{data.size} bytes do not hold {count} codes of {form}",
            note=f"{count} x {width} bits are {packed_size(count, width)} bytes",
            help="pass the shape that was packed",
        )
    if width > 62:
        total = int.from_bytes(data.tobytes(), "little")
        mask = (1 << width) - 1
        wide = [(total >> (index * width)) & mask for index in range(count)]
        return _signed(np.asarray(wide, dtype=object), form).reshape(shape)
    if width in (8, 16, 32):
        patterns = data.view(f"<u{width // 8}").astype(np.int64)
    else:
        bits = np.unpackbits(data, bitorder="little")[: count * width].reshape(count, width)
        patterns = bits.astype(np.int64) @ (1 << np.arange(width, dtype=np.int64))
    return _signed(patterns, form).reshape(shape)


def _signed(patterns: Integers, form: ScalarFormat) -> Integers:
    low, high = form.code_interval()
    if low == 0:
        return patterns
    result = patterns.copy()
    result[patterns > high] -= 1 << form.width
    return result


def rom_words(codes: object, form: ScalarFormat) -> list[str]:
    """Lines of a `$readmemh` file: a word per row of `codes` [words, lanes], lane 0 in the lowest bits."""
    rows = as_integers(codes)
    rows = rows.reshape(rows.shape[0], -1) if rows.ndim > 1 else rows.reshape(-1, 1)
    digits = -(-rows.shape[1] * form.width // 4)
    return [f"{int.from_bytes(pack_codes(row, form).tobytes(), 'little'):0{digits}x}" for row in rows]
