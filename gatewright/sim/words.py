"""Converts between numpy arrays and the words of a stream.

A word of at most 64 bits is a uint64; a wider one is a row of uint64 limbs, least significant first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewright.diagnostics import error

Words = NDArray[np.uint64]


def limbs(width: int) -> int:
    """How many 64-bit limbs a word of ``width`` bits takes."""
    return (width + 63) // 64


def words_to_bytes(words: NDArray[np.generic], width: int, count: int, name: str) -> bytes:
    """``count`` words as little-endian bytes, ceil(width/8) each; negative ones as two's complement.

    Raises GatewrightError GW0406 where there are too few words or the limbs do not fit ``width``.
    """
    if not np.issubdtype(words.dtype, np.integer):
        raise error("GW0406", f"stream `{name}` takes integers, not {words.dtype}")
    shape = (count,) if width <= 64 else (count, limbs(width))
    if words.ndim != len(shape) or len(words) < count or words.shape[1:] != shape[1:]:
        raise error("GW0406", f"stream `{name}` needs words of shape {shape}, not {words.shape}")
    rows = words.reshape(-1, limbs(width))
    whole = np.ascontiguousarray(rows[:count]).astype(np.uint64, casting="unsafe")
    spare = -width % 64
    if spare:
        whole = whole.copy()
        whole[:, -1] &= np.uint64((1 << (64 - spare)) - 1)
    return np.ascontiguousarray(whole.view(np.uint8)[:, : (width + 7) // 8]).tobytes()


def bytes_to_words(data: bytes, width: int) -> Words:
    """The inverse of :func:`words_to_bytes`; bits of a word above ``width`` are dropped."""
    size = (width + 7) // 8
    rows = np.frombuffer(data, np.uint8).reshape(-1, size)
    whole = np.zeros((len(rows), limbs(width) * 8), np.uint8)
    whole[:, :size] = rows
    words = whole.view(np.uint64)
    spare = -width % 64
    if spare:
        words[:, -1] &= np.uint64((1 << (64 - spare)) - 1)
    return words if width > 64 else words[:, 0].copy()


def pack_lanes(codes: NDArray[Any], element_width: int) -> Words:
    """Words from codes of shape [words, lanes], lane 0 in the least significant bits.

    A code is an integer (int64 or object) whose low ``element_width`` bits are kept.
    """
    count, lanes = codes.shape
    width = lanes * element_width
    words = np.zeros((count, limbs(width)), np.uint64)
    for lane in range(lanes):
        for offset in range(0, element_width, 64):
            bits = min(64, element_width - offset)
            part = (codes[:, lane] >> offset) & ((1 << bits) - 1) if codes.dtype == object else codes[:, lane]
            shift = min(offset, 63) if codes.dtype != object else 0
            if codes.dtype != object:
                part = part >> shift
            value = part.astype(np.uint64) & np.uint64((1 << bits) - 1)
            limb, position = divmod(lane * element_width + offset, 64)
            words[:, limb] |= value << np.uint64(position)
            if position + bits > 64:
                words[:, limb + 1] |= value >> np.uint64(64 - position)
    return words if width > 64 else words[:, 0].copy()


def unpack_lanes(words: Words, element_width: int, lanes: int, signed: bool) -> NDArray[Any]:
    """Codes of shape [words, lanes] from words: int64, or Python integers above 63 bits an element."""
    rows = words.reshape(len(words), -1)
    if element_width > 63:
        return _unpack_wide(rows, element_width, lanes, signed)
    codes = np.empty((len(rows), lanes), np.int64)
    for lane in range(lanes):
        limb, position = divmod(lane * element_width, 64)
        value = rows[:, limb] >> np.uint64(position)
        if position + element_width > 64:
            value |= rows[:, limb + 1] << np.uint64(64 - position)
        code = (value << np.uint64(64 - element_width)).view(np.int64)
        spare = 64 - element_width
        codes[:, lane] = code >> spare if signed else code.view(np.uint64) >> np.uint64(spare)
    return codes


def _unpack_wide(rows: Words, element_width: int, lanes: int, signed: bool) -> NDArray[np.object_]:
    codes = np.empty((len(rows), lanes), object)
    for k, row in enumerate(rows):
        word = int.from_bytes(row.tobytes(), "little")
        for lane in range(lanes):
            code = (word >> (lane * element_width)) & ((1 << element_width) - 1)
            codes[k, lane] = code - (1 << element_width) if signed and code >> (element_width - 1) else code
    return codes
