"""The channels of the token-level simulation.

A channel is known by the times at which its beats are taken. Which end computes them depends on the reader:

- a *buffered* reader, whose ready signal does not depend on its valid inputs, says for each beat in advance from when
  it takes it, and the writer finds the time;
- at the other channels the writer says from when it offers a beat, and the reader finds the time.

In both cases the ring at ``SAID`` holds what is said. A beat never moves before the one ahead of it has moved, and
neither end needs to add that.
"""
# pyright: basic
# numba's decorator has no types, and the processes are written in the subset that it compiles.

from __future__ import annotations

import numba

from gatewright.sim.token_table import BUFFERED, FIRST, KNOWN, LAST, MASK, SAID, TAKEN, TAKES, WAITS


def compiled(function):
    """numba's compilation of ``function``, kept on disk where numba finds a folder that it may write."""
    try:
        return numba.njit(cache=True)(function)
    except RuntimeError:  # an installation that is read-only, for a user without a home
        return numba.njit(function)


@compiled
def push(m, channel, beat, time):
    """Offer a beat from ``time`` on; the cycle in which it is taken, or -1 where that is not known yet."""
    place = beat & m[channel + MASK]
    if m[channel + BUFFERED] == 1:
        if m[channel + KNOWN] <= beat:
            m[channel + WAITS] = 1
            return -1
        m[channel + WAITS] = 0
        taken = max(time, m[channel + LAST] + 1, m[m[channel + SAID] + place])
        m[m[channel + TAKES] + place] = taken
        if beat == 0:
            m[channel + FIRST] = taken
        m[channel + LAST] = taken
        m[channel + TAKEN] = beat + 1
        return taken
    if m[channel + KNOWN] == beat:
        m[m[channel + SAID] + place] = time
        m[channel + KNOWN] = beat + 1
    return m[m[channel + TAKES] + place] if m[channel + TAKEN] > beat else -1


@compiled
def offered(m, channel):
    """From when the next beat can be taken by a reader that is not buffered, or -1."""
    beat = m[channel + TAKEN]
    if m[channel + KNOWN] <= beat:
        return -1
    return max(m[m[channel + SAID] + (beat & m[channel + MASK])], m[channel + LAST] + 1)


@compiled
def take(m, channel, time):
    """Take the next beat, by a reader that is not buffered."""
    beat = m[channel + TAKEN]
    m[m[channel + TAKES] + (beat & m[channel + MASK])] = time
    if beat == 0:
        m[channel + FIRST] = time
    m[channel + LAST] = time
    m[channel + TAKEN] = beat + 1


@compiled
def taken_at(m, channel, beat):
    """When a beat was taken that was taken already."""
    return m[m[channel + TAKES] + (beat & m[channel + MASK])]


@compiled
def welcome(m, channel, time, count):
    """Say that the next ``count`` beats are taken from ``time`` on."""
    said, mask, known = m[channel + SAID], m[channel + MASK], m[channel + KNOWN]
    for beat in range(known, known + count):
        m[said + (beat & mask)] = time
    m[channel + KNOWN] = known + count


@compiled
def welcome_all(m, channel, needed):
    """Say that beats are taken at any time, as many as can be remembered beside those from ``needed`` on.

    Half of the ring is left for words that a window passes before they come.
    """
    more = needed + (m[channel + MASK] + 1) // 2 - m[channel + KNOWN]
    if more > 0:
        welcome(m, channel, 0, more)
