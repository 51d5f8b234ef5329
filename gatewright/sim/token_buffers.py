"""Buffers in the token-level simulation: FIFOs, replay and reorder buffers, and windows."""
# pyright: basic
# numba's decorator has no types, and the processes are written in the subset that it compiles.

from __future__ import annotations

from gatewright.sim.token_channels import compiled, offered, push, take, taken_at, welcome, welcome_all
from gatewright.sim.token_table import (
    BEGINS,
    BUFFERED,
    COLUMN,
    DONE,
    ENDLESS,
    FREED,
    FREES,
    INPUT,
    KIND,
    KNOWN,
    LEFT,
    LOADED,
    LOADED_AT,
    MASK,
    MOVED,
    OFFSET,
    OUTPUT,
    PARAMETERS,
    PASSED,
    PEAK,
    PREFIX,
    PREVIOUS,
    READ_WINDOW,
    REORDER,
    ROW,
    SAID,
    SEEN,
    SPAN,
    TAKEN,
    TAKES,
    TURNS,
    WAITS,
    WINDOW,
    A,
    B,
    D,
    E,
)


@compiled
def free(m, c, time, count, depth):
    """Free words over the clock edge after ``time``."""
    channel = m[c + INPUT]
    frees, mask = m[channel + FREES], m[channel + MASK]
    for word in range(m[c + FREED], m[c + FREED] + count):
        m[frees + (word & mask)] = time
    m[c + FREED] += count
    if depth < ENDLESS:
        welcome(m, channel, time + 1, count)


@compiled
def measure(m, c, held, before):
    """Find the most words in use; no more are freed at cycles below ``before``.

    Of the words that came, each is looked at once it is known what has been freed when it came.
    """
    channel = m[c + INPUT]
    takes, frees, mask, came = m[channel + TAKES], m[channel + FREES], m[channel + MASK], m[channel + TAKEN]
    word, left, known, peak = m[c + SEEN], m[c + LEFT], m[c + FREED], m[c + PEAK]
    while word < came:
        time = m[takes + (word & mask)]
        while left < known and m[frees + (left & mask)] <= time:
            left += 1
        if left == known and time >= before:
            break
        word += 1
        peak = max(peak, held + word - left)
    m[c + SEEN] = word
    m[c + LEFT] = left
    m[c + PEAK] = peak


@compiled
def run_fifo(m, c):
    """A shallow one is two registers; a deep one has a memory and an output register."""
    channel, output, depth = m[c + INPUT], m[c + OUTPUT], m[m[c + PARAMETERS] + 1]
    takes, mask, came = m[channel + TAKES], m[channel + MASK], m[channel + TAKEN]
    delay = 1 if depth <= 2 else 2
    done = m[c + DONE]
    if m[output + BUFFERED] == 0:
        said, others = m[output + SAID], m[output + MASK]
        beat = m[output + KNOWN]
        limit = min(came, done + others + 1)
        while beat < limit:
            m[said + (beat & others)] = m[takes + (beat & mask)] + delay
            beat += 1
        m[output + KNOWN] = beat
    before = ENDLESS
    while done < came:
        arrived = m[takes + (done & mask)]
        if 2 < depth < ENDLESS and m[c + LOADED] == 0:
            welcome(m, channel, max(arrived + 1, m[c + PREVIOUS]) + 1, 1)
            m[c + LOADED] = 1
        time = push(m, output, done, arrived + delay)
        if time < 0:
            before = max(arrived + delay, m[c + PREVIOUS] + 1)
            break
        free(m, c, time, 1, depth if depth <= 2 else ENDLESS)
        done += 1
        m[c + PREVIOUS] = time
        m[c + LOADED] = 0
    m[c + DONE] = done
    measure(m, c, 0, before)
    if depth >= ENDLESS:
        welcome_all(m, channel, min(done, m[c + SEEN], m[c + LEFT]))


@compiled
def run_register(m, c):
    """A buffer with an output register: each word that it reads is offered one cycle later."""
    channel, output = m[c + INPUT], m[c + OUTPUT]
    before = ENDLESS
    while True:
        if m[c + LOADED] == 1:
            time = push(m, output, m[c + DONE], m[c + LOADED_AT] + 1)
            if time < 0:
                before = m[c + LOADED_AT] + 1
                break
            m[c + PREVIOUS] = time
            m[c + DONE] += 1
            m[c + LOADED] = 0
        if not load(m, c, channel):
            break
    if m[c + KIND] == WINDOW:
        finish_window(m, c, channel, before)


@compiled
def load(m, c, channel):
    """Read the next word into the output register once it is there; whether it is."""
    kind, p = m[c + KIND], m[c + PARAMETERS]
    is_window = kind in (WINDOW, READ_WINDOW)
    if is_window:
        word = window_word(m, c, p)
    elif kind == REORDER:
        word = (m[c + A] + 1) * m[p + 1] - 1
    else:
        word = m[c + A] if m[c + B] == 0 else -1
    if word >= m[channel + TAKEN]:
        return False
    time = m[c + PREVIOUS]
    if word >= 0:
        time = max(time, taken_at(m, channel, word) + 1)
    m[c + LOADED] = 1
    m[c + LOADED_AT] = time
    if is_window:
        passed = window_step(m, c, p)
        if passed != 0:
            m[c + PASSED] += passed
            free(m, c, time, passed, m[p + 2])
    elif kind == REORDER:
        # A: the bank, D: its words read.
        m[c + D] += 1
        if m[c + D] == m[p + 2]:
            m[c + D] = 0
            m[c + A] += 1
            welcome(m, channel, time + 1, m[p + 1])
    else:
        # A: words read for the first time, B: the turn, D: the index in the group.
        if m[c + B] == 0:
            m[c + A] += 1
        if m[c + B] == m[p + 2] - 1:
            welcome(m, channel, time + 1, 1)
        m[c + D] += 1
        if m[c + D] == m[p + 1]:
            m[c + D] = 0
            m[c + B] = 0 if m[c + B] == m[p + 2] - 1 else m[c + B] + 1
    return True


@compiled
def finish_window(m, c, channel, before):
    """Measure a window, and let more come to an endless one; nothing more is freed at cycles below ``before``."""
    p = m[c + PARAMETERS]
    measure(m, c, m[p + 3], before)
    if m[p + 2] >= ENDLESS:
        welcome_all(m, channel, max(0, min(m[c + PASSED] - m[p + 3], m[c + SEEN], m[c + LEFT])))


@compiled
def window_word(m, c, p):
    """The word that a window reads next; -1 for padding, except at the beginning of a sample: its first word."""
    row, column = m[c + ROW], m[c + COLUMN]
    top, left = m[p + 8], m[p + 9]
    outside = m[p + 4] == 1 and (row < top or row >= top + m[p + 6])
    outside = outside or (m[p + 5] == 1 and (column < left or column >= left + m[p + 7]))
    if outside:
        return m[c + PASSED] if m[c + BEGINS] == 1 else -1
    return m[c + OFFSET] + m[c + PASSED] - m[p + 3]


@compiled
def window_step(m, c, p):
    """Move a window to its next word; the words that it leaves behind."""
    loops = m[p + 1]
    turn = 0
    while turn < loops:
        m[c + TURNS + turn] += 1
        if m[c + TURNS + turn] < m[p + 10 + turn]:
            break
        m[c + TURNS + turn] = 0
        turn += 1
    steps = p + 10 + loops + turn
    m[c + OFFSET] += m[steps]
    m[c + ROW] += m[steps + 2 * (loops + 1)]
    m[c + COLUMN] += m[steps + 3 * (loops + 1)]
    m[c + BEGINS] = 1 if turn == loops else 0
    return m[steps + loops + 1]


@compiled
def begin_window(m, c):
    """The state before the first word, and what the innermost loops do that make up one result."""
    p = m[c + PARAMETERS]
    m[c + BEGINS] = 1
    m[c + PEAK] = m[p + 3]
    m[c + A] = -1
    loops = m[p + 1]
    period = m[p + m[p]] if m[c + KIND] == READ_WINDOW else 0
    words, offset, passed, row, column = 1, 0, 0, 0, 0
    for turn in range(loops):
        again, steps = m[p + 10 + turn] - 1, p + 10 + loops + turn
        words *= again + 1
        offset += again * (m[steps] + offset)
        passed += again * (m[steps + loops + 1] + passed)
        row += again * (m[steps + 2 * (loops + 1)] + row)
        column += again * (m[steps + 3 * (loops + 1)] + column)
        if 1 < words == period and passed == 0:
            m[c + PREFIX] = turn + 1
            m[c + MOVED], m[c + MOVED + 1], m[c + MOVED + 2] = offset, row, column
    m[c + SPAN] = offset


@compiled
def run_unsteady_window(m, c, may_decide):
    """A window that takes back words which it has left, so that it may cease to be ready without a beat.

    What it reads and what it takes happen in the order of time. Where that needs a time which is not known, it
    notes the earliest at which something may happen (E): if no process can go on, and none has an earlier one, it does.
    """
    channel, output, p = m[c + INPUT], m[c + OUTPUT], m[c + PARAMETERS]
    while True:
        m[c + E] = -1
        if m[c + LOADED] == 1:
            left = push(m, output, m[c + DONE], m[c + LOADED_AT] + 1)
            if left >= 0:
                m[c + PREVIOUS] = left
                m[c + DONE] += 1
                m[c + LOADED] = 0
        word = window_word(m, c, p)
        may_read = m[c + LOADED] == 0 and word < m[channel + TAKEN]
        reads = ENDLESS
        if may_read:
            reads = max(m[c + PREVIOUS], taken_at(m, channel, word) + 1 if word >= 0 else 0)
        elif m[c + LOADED] == 1:
            reads = m[c + LOADED_AT] + 1  # or later
        arrives = offered(m, channel)
        level = m[p + 3] + m[channel + TAKEN] - m[c + PASSED]
        if level > m[channel + MASK] // 2:
            m[channel + WAITS] = 2  # more than can be remembered
            return
        # A: when words were last left behind, B: the level before, which is what counts in that cycle.
        has_room = level < m[p + 2]
        if 0 <= arrives <= m[c + A]:
            if m[c + B] < m[p + 2]:
                has_room = True
            else:
                arrives = m[c + A] + 1
        if has_room and arrives >= 0 and (arrives <= reads or (may_decide and not may_read)):
            _measure_until(m, c, level, arrives)
            take(m, channel, arrives)
        elif may_read and (arrives >= 0 or not has_room or may_decide):
            m[c + LOADED] = 1
            m[c + LOADED_AT] = reads
            passed = window_step(m, c, p)
            if passed != 0:
                _measure_until(m, c, level, reads)
                m[c + PASSED] += passed
                m[c + A], m[c + B] = reads, level
        else:
            if has_room and arrives >= 0:
                m[c + E] = arrives
            elif may_read:
                m[c + E] = reads
            return
        may_decide = False


@compiled
def _measure_until(m, c, level, time):
    """Before something happens at ``time``: the level has been reached at the end of an earlier cycle."""
    if time > m[c + LEFT]:
        m[c + PEAK] = max(m[c + PEAK], level)
        m[c + LEFT] = time
