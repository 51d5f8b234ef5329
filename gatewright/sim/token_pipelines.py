"""Units in the token-level simulation: pipelines, forks and width adapters."""
# pyright: basic
# numba's decorator has no types, and the processes are written in the subset that it compiles.

from __future__ import annotations

from gatewright.sim.token_buffers import finish_window, load
from gatewright.sim.token_channels import compiled, offered, push, take, taken_at, welcome
from gatewright.sim.token_table import (
    BEGINS,
    COUNTED,
    DONE,
    ENDLESS,
    INPUT,
    INPUTS,
    KIND,
    LOADED,
    LOADED_AT,
    MADE,
    MOVED,
    NEXT,
    OFFERED,
    OFFSET,
    OUTPUT,
    OUTPUTS,
    PARAMETERS,
    PASSED,
    PHASE,
    PREFIX,
    PREVIOUS,
    READ_WINDOW,
    RESULT_MASK,
    RESULTS,
    RUN,
    SPAN,
    STALLS,
    STALLS_AFTER,
    TAKEN,
    TURNS,
    A,
    B,
    D,
    E,
)


@compiled
def _offer_results(m, c):
    """Offer the results one after the other: when one leaves tells when the next can be offered.

    The ring of results holds the local cycles in which they are due, then the stalls up to when they left.
    """
    mask = m[c + RESULT_MASK]
    while m[c + OFFERED] < m[c + MADE]:
        place = m[c + RESULTS] + (m[c + OFFERED] & mask)
        time = push(m, m[c + OUTPUT], m[c + OFFERED], m[place] + m[c + STALLS_AFTER])
        if time < 0:
            return
        m[c + STALLS_AFTER] = time - m[place]
        m[place + mask + 1] = time - m[place]
        m[c + OFFERED] += 1


@compiled
def _settle(m, c, local):
    """Count the stalls of the results due up to a local cycle; whether all are known."""
    mask = m[c + RESULT_MASK]
    while m[c + COUNTED] < m[c + MADE] and m[m[c + RESULTS] + (m[c + COUNTED] & mask)] <= local:
        if m[c + COUNTED] >= m[c + OFFERED]:
            return False
        m[c + STALLS] = m[m[c + RESULTS] + (m[c + COUNTED] & mask) + mask + 1]
        m[c + COUNTED] += 1
    return True


@compiled
def _fire(m, c, time, produces, latency):
    """Let the next phase take place, from ``time`` on; the cycle in which it does, or -1 if that is not known yet."""
    mask = m[c + RESULT_MASK]
    local = max(m[c + NEXT], time - m[c + STALLS])
    while m[c + COUNTED] < m[c + MADE]:
        place = m[c + RESULTS] + (m[c + COUNTED] & mask)
        if m[place] > local:
            break
        if m[c + COUNTED] >= m[c + OFFERED]:
            return -1
        # In the local cycle in which a result is due the pipeline advances when that leaves.
        m[c + STALLS] = m[place + mask + 1]
        m[c + NEXT] = max(m[c + NEXT], m[place])
        m[c + COUNTED] += 1
        local = max(m[c + NEXT], time - m[c + STALLS])
    m[c + NEXT] = local + 1
    if produces:
        m[m[c + RESULTS] + (m[c + MADE] & mask)] = local + latency
        m[c + MADE] += 1
        _offer_results(m, c)
    return local + m[c + STALLS]


@compiled
def run_pipeline(m, c):
    """The phases of a program, each once all inputs that it needs are there."""
    p, inputs = m[c + PARAMETERS], m[c + INPUTS]
    count, last = m[inputs], (m[p] - 1) // 4
    _offer_results(m, c)
    while True:
        run = p + 2 + 4 * m[c + RUN]
        needed, consumed = m[run + 1], m[run + 2]
        latest = 0
        for k in range(count):
            if (needed >> k) & 1:
                time = offered(m, m[inputs + 1 + k])
                if time < 0:
                    return
                latest = max(latest, time)
        time = _fire(m, c, latest, m[run + 3] == 1, m[p + 1])
        if time < 0:
            return
        for k in range(count):
            if (consumed >> k) & 1:
                take(m, m[inputs + 1 + k], time)
        m[c + PHASE] += 1
        if m[c + PHASE] == m[run]:
            m[c + PHASE] = 0
            m[c + RUN] = 0 if m[c + RUN] + 1 == last else m[c + RUN] + 1


@compiled
def run_reading_pipeline(m, c):
    """A buffer with an output register and the pipeline that makes one result of every so many of its words."""
    channel, p = m[c + INPUT], m[c + PARAMETERS]
    latency, period = m[p + m[p] - 1], m[p + m[p]]
    _offer_results(m, c)
    before = ENDLESS
    while True:
        if m[c + LOADED] == 0:
            ahead = _words_there(m, c, p, channel, period)
            if ahead > 0:
                if not _settle(m, c, m[c + NEXT] + ahead - 1):
                    before = m[c + PREVIOUS] + 1
                    break
                _skip(m, c, p, ahead)
                m[c + NEXT] += ahead
                m[c + PHASE] += ahead
                m[c + PREVIOUS] = m[c + NEXT] - 1 + m[c + STALLS]
            if not load(m, c, channel):
                break
        ends = m[c + PHASE] == period - 1
        time = _fire(m, c, m[c + LOADED_AT] + 1, ends, latency)
        if time < 0:
            before = m[c + LOADED_AT] + 1
            break
        m[c + LOADED] = 0
        m[c + PREVIOUS] = time
        m[c + PHASE] = 0 if ends else m[c + PHASE] + 1
    if m[c + KIND] == READ_WINDOW:
        finish_window(m, c, channel, before)


@compiled
def _words_there(m, c, p, channel, period):
    """How many words follow one another without a wait, without freeing one and without a result."""
    if m[c + KIND] == READ_WINDOW:
        if m[c + PREFIX] == 0 or m[c + PHASE] > 0 or m[c + BEGINS] == 1:
            return 0
        last = m[c + PASSED] + m[c + SPAN] - m[p + 3]
        ahead = period - 1
    else:
        if m[c + B] == m[p + 2] - 1:
            return 0
        ahead = min(period - 1 - m[c + PHASE], m[p + 1] - 1 - m[c + D])
        last = m[c + A] + ahead - 1 if m[c + B] == 0 else -1
    if last >= m[channel + TAKEN] or (last >= 0 and taken_at(m, channel, last) >= m[c + PREVIOUS]):
        return 0
    return ahead


@compiled
def _skip(m, c, p, words):
    """Read words that are there."""
    if m[c + KIND] == READ_WINDOW:
        for turn in range(m[c + PREFIX]):
            m[c + TURNS + turn] = m[p + 10 + turn] - 1
        for k in range(3):
            m[c + OFFSET + k] += m[c + MOVED + k]
    else:
        m[c + D] += words
        if m[c + B] == 0:
            m[c + A] += words


@compiled
def run_fork(m, c):
    """A beat is taken when the last of the readers takes it."""
    channel, outputs = m[c + INPUT], m[c + OUTPUTS]
    while True:
        time = offered(m, channel)
        if time < 0:
            return
        beat = m[channel + TAKEN]
        last, every = 0, True
        for k in range(m[outputs]):
            output = m[outputs + 1 + k]
            taken = taken_at(m, output, beat) if m[output + TAKEN] > beat else push(m, output, beat, time)
            every = every and taken >= 0
            last = max(last, taken)
        if not every:
            return
        take(m, channel, last)


@compiled
def run_up(m, c):
    """D: beats read, B: the beat of the row, LOADED: a result waits, LOADED_AT: since when."""
    channel, p = m[c + INPUT], m[c + PARAMETERS]
    while True:
        if m[c + LOADED] == 1:
            time = push(m, m[c + OUTPUT], m[c + DONE], m[c + LOADED_AT])
            if time < 0:
                return
            m[c + LOADED] = 0
            m[c + DONE] += 1
            m[c + B] = 0 if m[c + B] == m[p + 3] - 1 else m[c + B] + 1
            # The first of the next beats may come while the result leaves.
            welcome(m, channel, time, m[p + 2] if m[c + B] == m[p + 3] - 1 else m[p + 1])
        length = m[p + 2] if m[c + B] == m[p + 3] - 1 else m[p + 1]
        if m[channel + TAKEN] < m[c + D] + length:
            return
        m[c + D] += length
        m[c + LOADED] = 1
        m[c + LOADED_AT] = taken_at(m, channel, m[c + D] - 1) + 1


@compiled
def run_down(m, c):
    """D: beats read, B: the beat of the row, E: the result of the beat."""
    channel, p = m[c + INPUT], m[c + PARAMETERS]
    while m[c + D] < m[channel + TAKEN]:
        length = m[p + 2] if m[c + B] == m[p + 3] - 1 else m[p + 1]
        since = taken_at(m, channel, m[c + D]) + 1
        time = 0
        while m[c + E] < length:
            time = push(m, m[c + OUTPUT], m[c + DONE], since)
            if time < 0:
                return
            m[c + DONE] += 1
            m[c + E] += 1
        welcome(m, channel, time, 1)
        m[c + E] = 0
        m[c + D] += 1
        m[c + B] = 0 if m[c + B] == m[p + 3] - 1 else m[c + B] + 1


@compiled
def run_ring(m, c):
    """Units in and out, beats in and out of a row. A row may begin when the one before the last has left.

    A and B: the row, and in it the beat, that is offered next; D and E: those that come to be welcome next.
    """
    channel, p = m[c + INPUT], m[c + PARAMETERS]
    units_in, units_out, endless = m[p + 1], m[p + 2], m[p + 5] == 1
    beats_in = ENDLESS if endless else m[p + 3]
    beats_out = ENDLESS if endless else m[p + 4]
    while True:
        welcome_of_ring(m, c, beats_in)
        needed = min(beats_in, -(-(m[c + B] + 1) * units_out // units_in))
        needed += 0 if endless else m[c + A] * beats_in
        if m[channel + TAKEN] < needed:
            return
        time = push(m, m[c + OUTPUT], m[c + DONE], taken_at(m, channel, needed - 1) + 1)
        if time < 0:
            return
        m[c + PREVIOUS] = time + 1
        m[c + DONE] += 1
        m[c + B] += 1
        if m[c + B] == beats_out:
            m[c + A] += 1
            m[c + B] = 0


@compiled
def welcome_of_ring(m, c, beats_in):
    """The beats that find room after the present results: the ring holds ``units_in`` times ``units_out`` units."""
    p = m[c + PARAMETERS]
    units_in, units_out = m[p + 1], m[p + 2]
    while True:
        row, beat = m[c + D], m[c + E]
        left = -(-(beat - units_out + 1) * units_in // units_out)  # results of this row that must have left
        room = m[c + A] >= row - 1
        if left > 0:
            room = m[c + A] > row or (m[c + A] == row and m[c + B] >= left)
        if not room:
            return
        welcome(m, m[c + INPUT], m[c + PREVIOUS], 1)
        m[c + E] += 1
        if m[c + E] == beats_in:
            m[c + D] += 1
            m[c + E] = 0
