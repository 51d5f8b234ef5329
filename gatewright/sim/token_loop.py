"""The compiled loop of the token-level simulation.

Nothing is done cycle by cycle: every component is a process that computes when the beats of its channels
move, from when earlier ones moved, as far as that is known. The networks are deterministic (a component
never asks whether a beat is absent), so the order in which the processes run does not matter: the times are those of a
simulation of every cycle (Kahn 1974). A process stops where it lacks a time and is woken by it.
"""
# pyright: basic
# numba's decorator has no types, and the processes are written in the subset that it compiles.

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from gatewright.sim.token_buffers import begin_window, measure, run_fifo, run_register, run_unsteady_window
from gatewright.sim.token_channels import compiled, push, taken_at, welcome, welcome_all
from gatewright.sim.token_pipelines import (
    run_down,
    run_fork,
    run_pipeline,
    run_reading_pipeline,
    run_ring,
    run_up,
    welcome_of_ring,
)
from gatewright.sim.token_table import (
    BEATS,
    BUFFERED,
    DONE,
    DOWN,
    ENDLESS,
    FIFO,
    FORK,
    INPUT,
    INPUTS,
    KIND,
    KNOWN,
    LAST,
    LEFT,
    MASK,
    OUTPUT,
    OUTPUTS,
    PARAMETERS,
    PASSED,
    PEAK,
    PIPELINE,
    QUEUED,
    READ_REPLAY,
    READ_WINDOW,
    READER,
    REORDER,
    REPLAY,
    RING,
    SAID,
    SEEN,
    SINK,
    SOURCE,
    TAKEN,
    TOLD_READER,
    TOLD_WRITER,
    UP,
    WAITS,
    WINDOW,
    WRITER,
    A,
    B,
    E,
)


@compiled
def _run_source(m, c, samples, pace):
    """Offer beats as far ahead as the channel remembers them."""
    channel, beats, done = m[c + OUTPUT], m[c + BEATS], m[c + DONE]
    total = beats * samples
    if m[channel + BUFFERED] == 0:
        said, mask, beat = m[channel + SAID], m[channel + MASK], m[channel + KNOWN]
        while beat < total and beat - done <= mask:
            m[said + (beat & mask)] = -(-beat * pace // beats)
            beat += 1
        m[channel + KNOWN] = beat
    while done < total and push(m, channel, done, -(-done * pace // beats)) >= 0:
        done += 1
    m[c + DONE] = done


@compiled
def _run_sink(m, c, samples, ends):
    """A: the sample, B: its beat, E: the row of ``ends``."""
    channel = m[c + INPUT]
    while m[c + DONE] < m[channel + TAKEN]:
        m[c + B] += 1
        if m[c + B] == m[c + BEATS]:
            if m[c + A] < samples:
                ends[m[c + E], m[c + A]] = taken_at(m, channel, m[c + DONE])
            m[c + A] += 1
            m[c + B] = 0
        m[c + DONE] += 1
    welcome_all(m, channel, m[c + DONE])


@compiled
def _run(m, c, samples, pace, ends, may_decide):
    """Let a process go on as far as it can."""
    kind = m[c + KIND]
    if kind == PIPELINE:
        run_pipeline(m, c)
    elif kind >= READ_WINDOW:
        run_reading_pipeline(m, c)
    elif kind == FIFO:
        run_fifo(m, c)
    elif kind == FORK:
        run_fork(m, c)
    elif kind == UP:
        run_up(m, c)
    elif kind == DOWN:
        run_down(m, c)
    elif kind == RING:
        run_ring(m, c)
    elif kind == SOURCE:
        _run_source(m, c, samples, pace)
    elif kind == SINK:
        _run_sink(m, c, samples, ends)
    elif kind == WINDOW and m[m[c + INPUT] + BUFFERED] == 0:
        run_unsteady_window(m, c, may_decide)
    else:
        run_register(m, c)


@compiled
def begin(m, components, channels):
    """The state before the first cycle: what every buffer takes while it is empty."""
    for channel in channels:
        m[channel + LAST] = -1
    for c in components:
        kind, channel, p = m[c + KIND], m[c + INPUT], m[c + PARAMETERS]
        room = 0
        if kind == FIFO:
            room = m[p + 1] if m[p + 1] <= 2 else m[p + 1] - 1
        elif kind == WINDOW or kind == READ_WINDOW:
            begin_window(m, c)
            room = m[p + 2] - m[p + 3]
        elif kind == REPLAY or kind == READ_REPLAY:
            room = m[p + 3]
        elif kind == REORDER:
            room = 2 * m[p + 1]
        elif kind == UP:
            room = m[p + 2] if m[p + 3] == 1 else m[p + 1]
        elif kind == DOWN:
            room = 1
        elif kind == RING:
            welcome_of_ring(m, c, ENDLESS if m[p + 5] == 1 else m[p + 3])
        if kind != SOURCE and m[channel + BUFFERED] == 1:
            if 0 < room < ENDLESS // 2:
                welcome(m, channel, 0, room)
            m[channel + TOLD_WRITER] = m[channel + KNOWN]


@compiled
def _full(m, components):
    """A channel whose rings are too short for an endless buffer, once nothing else can go on; or -1.

    It is the last one: those before it may be full only because it is.
    """
    for index in range(len(components) - 1, -1, -1):
        c = components[index]
        kind, channel = m[c + KIND], m[c + INPUT]
        if kind != FIFO and kind != WINDOW and kind != READ_WINDOW:
            continue
        if m[channel + WAITS] == 2:
            m[channel + WAITS] = 0
            return channel
        depth = m[m[c + PARAMETERS] + (1 if kind == FIFO else 2)]
        waits = m[channel + BUFFERED] == 1 and m[channel + WAITS] == 1 and m[channel + TAKEN] == m[channel + KNOWN]
        if depth >= ENDLESS and waits:
            return channel
    return -1


@compiled
def _earliest(m, components):
    """The unsteady window that may decide what it does next, once nothing else can go on; or -1."""
    decider = -1
    for c in components:
        if m[c + KIND] == WINDOW and m[m[c + INPUT] + BUFFERED] == 0 and m[c + E] >= 0:
            if decider < 0 or m[c + E] < m[decider + E]:
                decider = c
    return decider


@compiled
def go_on(m, components, samples, pace, ends):
    """Run until every process waits; -1, or the channel whose rings have to be longer to go on.

    ``samples`` come from every source; with ``pace`` above 0 their beats come evenly, a sample in ``pace`` cycles.
    ``ends`` gets the cycles in which each sample ends at every sink.
    """
    count = len(components)
    queue = components.copy()
    for c in components:
        m[c + QUEUED] = 1
    head, waiting = 0, count
    decider = -1
    while True:
        if waiting == 0:
            full = _full(m, components)
            decider = _earliest(m, components)
            if full >= 0 or decider < 0:
                return full
            queue[head] = decider
            waiting = 1
        c = queue[head]
        head = 0 if head == count - 1 else head + 1
        waiting -= 1
        m[c + QUEUED] = 0
        _run(m, c, samples, pace, ends, c == decider)
        decider = -1
        inputs = m[c + INPUTS]
        for k in range(m[inputs]):
            channel = m[inputs + 1 + k]
            buffered = m[channel + BUFFERED] == 1
            said, told = m[channel + (KNOWN if buffered else TAKEN)], m[channel + TOLD_WRITER]
            if said == told:
                continue
            m[channel + TOLD_WRITER] = said
            woken = m[channel + WRITER]
            # The writer of a buffered channel waits only if it has used all that it knew.
            if m[woken + QUEUED] == 0 and (not buffered or m[channel + TAKEN] == told):
                m[woken + QUEUED] = 1
                queue[(head + waiting) % count] = woken
                waiting += 1
        outputs = m[c + OUTPUTS]
        for k in range(m[outputs]):
            channel = m[outputs + 1 + k]
            said = m[channel + (TAKEN if m[channel + BUFFERED] == 1 else KNOWN)]
            if said == m[channel + TOLD_READER]:
                continue
            m[channel + TOLD_READER] = said
            woken = m[channel + READER]
            if m[woken + QUEUED] == 0:
                m[woken + QUEUED] = 1
                queue[(head + waiting) % count] = woken
                waiting += 1


@compiled
def most_held(m, components):
    """The most words that every FIFO and window has held at once, if nothing more comes."""
    peaks = np.zeros(len(components), np.int64)
    for index, c in enumerate(components):
        kind, channel, p = m[c + KIND], m[c + INPUT], m[c + PARAMETERS]
        window = kind == WINDOW or kind == READ_WINDOW
        if window and m[channel + BUFFERED] == 0:
            peaks[index] = max(m[c + PEAK], m[p + 3] + m[channel + TAKEN] - m[c + PASSED])
        elif window or kind == FIFO:
            seen, left, peak = m[c + SEEN], m[c + LEFT], m[c + PEAK]
            measure(m, c, m[p + 3] if window else 0, ENDLESS)
            peaks[index] = m[c + PEAK]
            m[c + SEEN], m[c + LEFT], m[c + PEAK] = seen, left, peak
    return peaks


def _forget_other_sources() -> None:
    """Remove what numba has kept of these functions where it was made from other sources.

    numba looks at the file of a function alone, and not at those of the functions that it calls.
    """
    folder = go_on.stats.cache_path
    if folder is None:
        return
    sources = sorted(Path(__file__).parent.glob("token_*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    note = Path(folder) / "token_loop.sources"
    try:
        if note.exists() and note.read_text() == digest:
            return
        for kept in Path(folder).glob("token_*.nbi"):
            kept.unlink(missing_ok=True)
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(digest)
    except OSError:
        return  # nothing can be kept there either


_forget_other_sources()
