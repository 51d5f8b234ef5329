"""How a read-only memory is made: in block memory, in logic apart from what reads it, or as part of that."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewright.ir.streams.cost import prefers_block

# Measured with Yosys 0.70, synth_xilinx, on weights of 16 to 72 words.
SMALL_WORDS = 16
"""Words up to which a column takes about one look-up table wherever it is mapped."""
TABLE_WORDS = 64
"""Words of a column that are one look-up table where a memory is mapped apart."""
MIXED_BITS = 12.5
"""Bits of a memory per look-up table where it is mapped among other logic."""
UNSEEN_LUTS = 2
"""Look-up tables that a column's reader takes more where it cannot see that another column is equal."""


def rom_parameters(text: str, width: int) -> list[tuple[str, str]]:
    """What ``gw_rom`` is to know of the memory ``text``: lines of hexadecimal words of ``width`` bits.

    A mapper that sees a table and its reader at once splits the columns into small functions that they share, several
    look-up tables each where one would do. It also sees columns that are constant or equal, and simplifies what reads
    them. Of a memory that is mapped apart the constant columns are told, the equal ones are not.
    """
    words = [int(line, 16) for line in text.split()]
    if prefers_block(len(words), width):
        return [("RomBlock", "1")]
    if len(words) <= SMALL_WORDS:
        return []
    size = -(-width // 8)
    rows = np.frombuffer(b"".join(word.to_bytes(size, "little") for word in words), np.uint8).reshape(-1, size)
    bits = np.unpackbits(rows, axis=1, count=width, bitorder="little")
    count = bits.sum(axis=0)
    zeros, ones = count == 0, count == len(words)
    varying = bits[:, ~(zeros | ones)].T
    distinct = len({column.tobytes() for column in varying})
    saved = distinct * (len(words) / MIXED_BITS - -(-len(words) // TABLE_WORDS))
    if saved <= UNSEEN_LUTS * (len(varying) - distinct):
        return []
    constants = [(name, _number(mask)) for name, mask in (("RomZeros", zeros), ("RomOnes", ones))]
    return [("RomApart", "1"), *((name, f"{width}'h{number:x}") for name, number in constants if number)]


def _number(bits: NDArray[Any]) -> int:
    return int.from_bytes(np.packbits(bits, bitorder="little").tobytes(), "little")
