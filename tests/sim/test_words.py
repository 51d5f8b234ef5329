"""Words of streams: packing lanes and converting to and from bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewright.diagnostics import GatewrightError
from gatewright.sim.words import bytes_to_words, pack_lanes, unpack_lanes, words_to_bytes


@given(width=st.integers(1, 63), lanes=st.integers(1, 20), signed=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_lanes_survive_packing(width: int, lanes: int, signed: bool, seed: int) -> None:
    low, high = (-(1 << (width - 1)), 1 << (width - 1)) if signed else (0, 1 << width)
    codes = np.random.default_rng(seed).integers(low, high - 1, (7, lanes), endpoint=True)
    words = pack_lanes(codes, width)
    assert np.array_equal(unpack_lanes(words, width, lanes, signed), codes)
    data = words_to_bytes(words, width * lanes, 7, "x")
    assert len(data) == 7 * ((width * lanes + 7) // 8)
    assert np.array_equal(bytes_to_words(data, width * lanes), words)
    value = sum((int(code) & ((1 << width) - 1)) << (lane * width) for lane, code in enumerate(codes[0]))
    assert int.from_bytes(data[: (width * lanes + 7) // 8], "little") == value


@pytest.mark.parametrize("width", [64, 65, 100, 200])
def test_wide_lanes_survive_packing(width: int) -> None:
    codes = np.array([[-1, 1 << (width - 2)], [-(1 << (width - 1)), 5]], object)
    assert np.array_equal(unpack_lanes(pack_lanes(codes, width), width, 2, True), codes)


def test_negative_words_are_two_s_complement() -> None:
    assert words_to_bytes(np.array([-1, -2], np.int64), 12, 2, "x") == b"\xff\x0f\xfe\x0f"


@pytest.mark.parametrize(
    ("words", "width"),
    [
        (np.zeros(3, np.uint64), 8),
        (np.zeros((4, 2), np.uint64), 8),
        (np.zeros((4, 2), np.uint64), 129),
        (np.zeros(4), 8),
    ],
)
def test_words_that_do_not_fit_are_refused(words: np.ndarray, width: int) -> None:
    with pytest.raises(GatewrightError, match="GW0406"):
        words_to_bytes(words, width, 4, "x")
