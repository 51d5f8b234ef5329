"""The compiled loop of the token-level simulation.

One cycle is two sweeps and an update: valid flags forward, ready flags backward (components are in
topological order), then every state machine moves. Tables hold a length first, then the entries.
"""
# pyright: basic
# numba's decorator has no types, and the loop is written in the subset that it compiles.

from __future__ import annotations

import numba
import numpy as np

SOURCE, SINK, FIFO, FORK, WIRES, REPLAY, REORDER, UP, DOWN, RING, PIPELINE, WINDOW, READ_WINDOW, READ_REPLAY = range(14)
STATE_SIZE = 20
# A window's state: valid, level, offset, row, column, whether a sample starts, then one counter a loop, and the
# most words in use. Where it is taken together with the unit that reads it, that unit's beats and pipeline follow,
# and the cycle until which nothing but words written can change.
COUNTERS = 6
PEAK, BEAT, RESULTS, ASLEEP = 15, 16, 17, 18


def compiled(function):
    """numba's compilation of ``function``, kept on disk where numba finds a folder that it may write."""
    try:
        return numba.njit(cache=True)(function)
    except RuntimeError:  # an installation that is read-only, for a user without a home
        return numba.njit(function)


@compiled
def _phase(c, parameters, state):
    """The index of the run of a pipeline's program that the next phase belongs to."""
    return 2 + 4 * state[c, 1]


@compiled
def _pipeline_can_fire(c, parameters, state, inputs, valid):
    run = 2 + 4 * state[c, 1]
    needed = parameters[c, run + 1]
    for k in range(inputs[c, 0]):
        if (needed >> k) & 1 and not valid[inputs[c, 1 + k]]:
            return False
    return True


@compiled
def _window_available(c, parameters, state):
    """Whether the word that a window reads next has been written, or is padding of a sample that has begun."""
    row, column = state[c, 3], state[c, 4]
    top, left = parameters[c, 8], parameters[c, 9]
    outside = parameters[c, 4] == 1 and (row < top or row >= top + parameters[c, 6])
    outside = outside or (parameters[c, 5] == 1 and (column < left or column >= left + parameters[c, 7]))
    if outside:
        return state[c, 5] == 0 or state[c, 1] > parameters[c, 3]
    return state[c, 2] < state[c, 1]


@compiled
def _window_step(c, parameters, state):
    """Move a window to its next word; the words that it leaves behind."""
    loops = parameters[c, 1]
    turn = 0
    while turn < loops:
        state[c, COUNTERS + turn] += 1
        if state[c, COUNTERS + turn] < parameters[c, 10 + turn]:
            break
        state[c, COUNTERS + turn] = 0
        turn += 1
    steps = 10 + loops + turn
    state[c, 2] += parameters[c, steps]
    state[c, 3] += parameters[c, steps + 2 * (loops + 1)]
    state[c, 4] += parameters[c, steps + 3 * (loops + 1)]
    state[c, 5] = 1 if turn == loops else 0
    return parameters[c, steps + loops + 1]


@compiled
def _offer(c, kind, parameters, state, inputs, outputs, valid, released):
    """Set the valid flags of a component's outputs."""
    if kind == SOURCE:
        valid[outputs[c, 1]] = state[c, 0] < released[c]
    elif kind == FORK:
        for k in range(outputs[c, 0]):
            valid[outputs[c, 1 + k]] = valid[inputs[c, 1]] and not (state[c, 0] >> k) & 1
    elif kind == WIRES:
        valid[outputs[c, 1]] = valid[inputs[c, 1]]
    elif kind == FIFO:
        valid[outputs[c, 1]] = state[c, 0] > 0 if parameters[c, 1] <= 2 else state[c, 2] == 1
    elif kind == RING:
        valid[outputs[c, 1]] = state[c, 1] > 0 or state[c, 0] >= parameters[c, 2]
    elif kind >= READ_WINDOW:
        valid[outputs[c, 1]] = (state[c, RESULTS] >> (parameters[c, parameters[c, 0] - 1] - 1)) & 1 == 1
    elif kind == PIPELINE:
        valid[outputs[c, 1]] = (state[c, 0] >> (parameters[c, 1] - 1)) & 1 == 1
    elif kind != SINK:
        valid[outputs[c, 1]] = state[c, 0] == 1


@compiled
def _accept(c, kind, parameters, state, inputs, outputs, valid, ready):
    """Set the ready flags of a component's inputs."""
    if kind == SINK:
        ready[inputs[c, 1]] = True
    elif kind == FORK:
        every = True
        for k in range(outputs[c, 0]):
            every = every and (ready[outputs[c, 1 + k]] or (state[c, 0] >> k) & 1 == 1)
        ready[inputs[c, 1]] = every
    elif kind == WIRES:
        ready[inputs[c, 1]] = ready[outputs[c, 1]]
    elif kind == FIFO:
        held, limit = (state[c, 0], parameters[c, 1]) if parameters[c, 1] <= 2 else (state[c, 1], parameters[c, 1] - 1)
        ready[inputs[c, 1]] = held < limit
    elif kind == REPLAY or kind == READ_REPLAY:
        ready[inputs[c, 1]] = state[c, 1] < parameters[c, 3]
    elif kind == WINDOW or kind == READ_WINDOW:
        ready[inputs[c, 1]] = state[c, 1] < parameters[c, 2]
    elif kind == REORDER:
        ready[inputs[c, 1]] = state[c, 1] < 2
    elif kind == UP:
        ready[inputs[c, 1]] = ready[outputs[c, 1]] or state[c, 0] == 0
    elif kind == DOWN:
        length = parameters[c, 2] if state[c, 2] == parameters[c, 3] - 1 else parameters[c, 1]
        ready[inputs[c, 1]] = state[c, 0] == 0 or (ready[outputs[c, 1]] and state[c, 1] + 1 == length)
    elif kind == RING:
        ready[inputs[c, 1]] = state[c, 1] < 2 and state[c, 0] <= (parameters[c, 2] - 1) * parameters[c, 1]
    elif kind == PIPELINE:
        advance = ready[outputs[c, 1]] or not valid[outputs[c, 1]]
        fires = advance and _pipeline_can_fire(c, parameters, state, inputs, valid)
        consumed = parameters[c, _phase(c, parameters, state) + 2]
        for k in range(inputs[c, 0]):
            ready[inputs[c, 1 + k]] = fires and (consumed >> k) & 1 == 1


@compiled
def _window_burst(c, parameters, state, most):
    """Read up to ``most`` more words of the present window that are there already; how many."""
    loops = parameters[c, 1]
    count = 0
    while count < most:
        inner = False
        for k in range(loops - 2):
            inner = inner or state[c, COUNTERS + k] + 1 < parameters[c, 10 + k]
        if not inner or not _window_available(c, parameters, state):
            break
        _window_step(c, parameters, state)
        count += 1
    return count


@compiled
def _replay_load(c, parameters, state):
    """The state of a replay buffer after it may read a word."""
    window, repeats = parameters[c, 1], parameters[c, 2]
    state[c, 0] = 1 if state[c, 4] > 0 or state[c, 2] > 0 else 0
    if state[c, 0] == 1:
        state[c, 2] -= state[c, 4] == 0
        state[c, 1] -= state[c, 4] == repeats - 1
        state[c, 3] += 1
        if state[c, 3] == window:
            state[c, 3] = 0
            state[c, 4] = (state[c, 4] + 1) % repeats


@compiled
def _read_move(c, kind, parameters, state, taken, cycle, free):
    """Advance a buffer and the unit that reads its words: every ``period`` of them make a result.

    ``free`` is whether no result waits. Words that are sure to follow one another without a result
    leaving are read at once, and the unit sleeps meanwhile. Returns whether anything but time changed.
    """
    latency = parameters[c, parameters[c, 0] - 1]
    period = parameters[c, parameters[c, 0]]
    passed = 0
    changed = taken
    if cycle >= state[c, ASLEEP]:
        fires = free and state[c, 0] == 1
        load = free or state[c, 0] == 0
        produced = 0
        leaving = free and state[c, RESULTS] != 0
        changed = changed or fires or leaving
        if fires:
            produced = 1 if state[c, BEAT] == period - 1 else 0
            state[c, BEAT] = 0 if produced == 1 else state[c, BEAT] + 1
        if free:
            state[c, RESULTS] = ((state[c, RESULTS] << 1) | produced) & ((1 << latency) - 1)
        if load:
            if kind == READ_WINDOW:
                state[c, 0] = 1 if _window_available(c, parameters, state) else 0
                if state[c, 0] == 1:
                    passed = _window_step(c, parameters, state)
            else:
                _replay_load(c, parameters, state)
            changed = changed or state[c, 0] == 1
        if state[c, RESULTS] == 0 and state[c, 0] == 1:
            ahead = 0
            most = period - 1 - state[c, BEAT]
            if kind == READ_WINDOW and passed == 0:
                ahead = _window_burst(c, parameters, state, most)
            elif kind == READ_REPLAY:
                while ahead < most and 0 < state[c, 4] < parameters[c, 2] - 1:
                    _replay_load(c, parameters, state)
                    ahead += 1
            state[c, BEAT] += ahead
            state[c, ASLEEP] = cycle + 1 + ahead
            changed = taken or leaving
    state[c, 1] += taken - passed
    if kind == READ_REPLAY:
        state[c, 2] += taken
    state[c, PEAK] = max(state[c, PEAK], state[c, 1])
    return changed


@compiled
def _move(c, kind, parameters, state, inputs, outputs, valid, ready):
    """Advance a component's state over the clock edge."""
    taken = inputs[c, 0] > 0 and valid[inputs[c, 1]] and ready[inputs[c, 1]]
    given = outputs[c, 0] > 0 and valid[outputs[c, 1]] and ready[outputs[c, 1]]
    load = outputs[c, 0] > 0 and (ready[outputs[c, 1]] or not valid[outputs[c, 1]])
    if kind == SOURCE:
        state[c, 0] += given
    elif kind == SINK:
        state[c, 0] += taken
    elif kind == FORK:
        if valid[inputs[c, 1]]:
            done = state[c, 0]
            for k in range(outputs[c, 0]):
                if ready[outputs[c, 1 + k]]:
                    done |= 1 << k
            state[c, 0] = 0 if done == (1 << outputs[c, 0]) - 1 else done
    elif kind == FIFO:
        if parameters[c, 1] <= 2:
            state[c, 0] += taken
            state[c, 0] -= given
        else:
            if load:
                state[c, 2] = 1 if state[c, 1] > 0 else 0
                state[c, 1] -= state[c, 2]
            state[c, 1] += taken
            state[c, 0] += taken
            state[c, 0] -= given
        state[c, 3] = max(state[c, 3], state[c, 0])
    elif kind == REPLAY:
        window, repeats = parameters[c, 1], parameters[c, 2]
        if load:
            state[c, 0] = 1 if state[c, 4] > 0 or state[c, 2] > 0 else 0
            if state[c, 0] == 1:
                state[c, 2] -= state[c, 4] == 0
                state[c, 1] -= state[c, 4] == repeats - 1
                state[c, 3] += 1
                if state[c, 3] == window:
                    state[c, 3] = 0
                    state[c, 4] = (state[c, 4] + 1) % repeats
        state[c, 1] += taken
        state[c, 2] += taken
    elif kind == WINDOW:
        passed = 0
        if load:
            state[c, 0] = 1 if _window_available(c, parameters, state) else 0
            if state[c, 0] == 1:
                passed = _window_step(c, parameters, state)
        state[c, 1] += taken - passed
        state[c, PEAK] = max(state[c, PEAK], state[c, 1])
    elif kind == REORDER:
        freed = 0
        if load:
            state[c, 0] = 1 if state[c, 1] > 0 else 0
            state[c, 3] += state[c, 0]
            if state[c, 3] == parameters[c, 2]:
                freed = 1
                state[c, 3] = 0
        state[c, 2] += taken
        filled = 1 if state[c, 2] == parameters[c, 1] else 0
        if filled == 1:
            state[c, 2] = 0
        state[c, 1] += filled - freed
    elif kind == UP:
        if load:
            state[c, 0] = 0
            if taken:
                state[c, 1] += 1
                if state[c, 1] == (parameters[c, 2] if state[c, 2] == parameters[c, 3] - 1 else parameters[c, 1]):
                    state[c, 0] = 1
                    state[c, 1] = 0
                    state[c, 2] = (state[c, 2] + 1) % parameters[c, 3]
    elif kind == DOWN:
        accepts = ready[inputs[c, 1]]
        if given:
            end = state[c, 1] + 1 == (parameters[c, 2] if state[c, 2] == parameters[c, 3] - 1 else parameters[c, 1])
            state[c, 1] = 0 if end else state[c, 1] + 1
            state[c, 2] = (state[c, 2] + end) % parameters[c, 3]
        if accepts:
            state[c, 0] = 1 if taken else 0
    elif kind == RING:
        fill = state[c, 0] + parameters[c, 1] * taken - (parameters[c, 2] if given and state[c, 1] == 0 else 0)
        if parameters[c, 5] == 0:
            state[c, 2] = (state[c, 2] + taken) % parameters[c, 3]
            state[c, 3] = (state[c, 3] + given) % parameters[c, 4]
            written = 1 if taken and state[c, 2] == 0 else 0
            delivered = 1 if given and state[c, 3] == 0 else 0
            state[c, 1] += written - delivered
            if written == 1:
                fill = 0
        state[c, 0] = fill
    elif kind == PIPELINE and load:
        fired = _pipeline_can_fire(c, parameters, state, inputs, valid)
        run = _phase(c, parameters, state)
        produced = parameters[c, run + 3] if fired else 0
        state[c, 0] = ((state[c, 0] << 1) | produced) & ((1 << parameters[c, 1]) - 1)
        if fired:
            state[c, 2] += 1
            if state[c, 2] == parameters[c, run]:
                state[c, 2] = 0
                state[c, 1] = (state[c, 1] + 1) % ((parameters[c, 0] - 1) // 4)


@compiled
def _ends_of_channels(channels, inputs, outputs):
    """The component that writes and the one that reads each channel."""
    producer = np.zeros(channels, np.int64)
    consumer = np.zeros(channels, np.int64)
    for c in range(len(inputs)):
        for k in range(inputs[c, 0]):
            consumer[inputs[c, 1 + k]] = c
        for k in range(outputs[c, 0]):
            producer[outputs[c, 1 + k]] = c
    return producer, consumer


@compiled
def _offer_changes(c, kind, parameters, state, inputs, outputs, valid, released, active, consumer):
    """Offer, and wake the readers of every output whose valid flag changed."""
    flags = 0
    for k in range(outputs[c, 0]):
        flags |= valid[outputs[c, 1 + k]] << k
    _offer(c, kind, parameters, state, inputs, outputs, valid, released)
    for k in range(outputs[c, 0]):
        channel = outputs[c, 1 + k]
        if valid[channel] != ((flags >> k) & 1 == 1):
            active[consumer[channel]] = True


@compiled
def _accept_changes(c, kind, parameters, state, inputs, outputs, valid, ready, active, producer):
    """Accept, and wake the writers of every input whose ready flag changed."""
    flags = 0
    for k in range(inputs[c, 0]):
        flags |= ready[inputs[c, 1 + k]] << k
    _accept(c, kind, parameters, state, inputs, outputs, valid, ready)
    for k in range(inputs[c, 0]):
        channel = inputs[c, 1 + k]
        if ready[channel] != ((flags >> k) & 1 == 1):
            active[producer[channel]] = True


@compiled
def _changes(c, kind, parameters, state, inputs, outputs, valid, ready, kept, cycle):
    """Move, and tell whether any state changed; ``kept`` is scratch space."""
    if kind >= READ_WINDOW:
        taken = valid[inputs[c, 1]] and ready[inputs[c, 1]]
        free = ready[outputs[c, 1]] or not valid[outputs[c, 1]]
        return _read_move(c, kind, parameters, state, taken, cycle, free)
    size = STATE_SIZE if kind == WINDOW else COUNTERS
    for k in range(size):
        kept[k] = state[c, k]
    _move(c, kind, parameters, state, inputs, outputs, valid, ready)
    for k in range(size):
        if state[c, k] != kept[k]:
            return True
    return False


@compiled
def run_loop(kinds, parameters, inputs, outputs, beats, samples, pace, idle_limit):
    """Run until every sink has ``samples`` samples.

    With ``pace`` above 0 the sources offer their beats evenly, a sample in ``pace`` cycles.

    Returns the cycles of each sample's first and last transfer per component (sources and sinks), the
    cycles taken (-1 for a deadlock), the FIFOs' peaks, and which components wait at the end.
    """
    count = len(kinds)
    channels = 1 + max(inputs[:, 1:].max(), outputs[:, 1:].max())
    valid = np.zeros(channels, np.bool_)
    ready = np.zeros(channels, np.bool_)
    state = np.zeros((count, STATE_SIZE), np.int64)
    for c in range(count):
        if kinds[c] == WINDOW or kinds[c] == READ_WINDOW:
            state[c, 1] = parameters[c, 3]
            state[c, 5] = 1
    readers = np.nonzero(kinds >= READ_WINDOW)[0]
    ports = np.nonzero((kinds == SOURCE) | (kinds == SINK))[0]
    sinks = (kinds == SINK).sum()
    stamps = np.zeros((count, samples, 2), np.int64)
    arrived = np.zeros(samples, np.int64)
    finished = 0
    peaks = np.zeros(count, np.int64)
    waiting = np.zeros(count, np.bool_)
    released = np.zeros(count, np.int64)
    if pace == 0:
        released[:] = beats * samples
    producer, consumer = _ends_of_channels(channels, inputs, outputs)
    # A component whose state and flags did not change does the same as in the cycle before: nothing
    # about it needs to be looked at again. ``active`` marks the others.
    active = np.ones(count, np.bool_)
    kept = np.zeros(STATE_SIZE, np.int64)
    cycle = 0
    idle = 0
    while finished < samples:
        if pace > 0:
            for c in ports:
                if kinds[c] == SOURCE and released[c] < beats[c] * samples:
                    due = cycle * beats[c] // pace + 1
                    if due != released[c]:
                        released[c] = due
                        active[c] = True
        for c in readers:
            active[c] = active[c] or state[c, ASLEEP] == cycle
        for c in range(count):
            if active[c]:
                _offer_changes(c, kinds[c], parameters, state, inputs, outputs, valid, released, active, consumer)
        for c in range(count - 1, -1, -1):
            if active[c]:
                _accept_changes(c, kinds[c], parameters, state, inputs, outputs, valid, ready, active, producer)
        for c in ports:
            channel = outputs[c, 1] if kinds[c] == SOURCE else inputs[c, 1]
            done = state[c, 0]
            if valid[channel] and ready[channel] and done < beats[c] * samples:
                sample = done // beats[c]
                if done % beats[c] == 0:
                    stamps[c, sample, 0] = cycle
                stamps[c, sample, 1] = cycle
                if kinds[c] == SINK and (done + 1) % beats[c] == 0:
                    arrived[sample] += 1
                    if arrived[sample] == sinks:
                        finished = sample + 1
        moved = False
        for c in range(count):
            if active[c]:
                active[c] = _changes(c, kinds[c], parameters, state, inputs, outputs, valid, ready, kept, cycle)
                moved = moved or active[c]
        cycle += 1
        idle = 0 if moved else idle + 1
        if idle > idle_limit:
            for c in range(count):
                waiting[c] = outputs[c, 0] > 0 and valid[outputs[c, 1]] and not ready[outputs[c, 1]]
            return stamps, -1, peaks, waiting
    for c in range(count):
        if kinds[c] == FIFO:
            peaks[c] = state[c, 3]
        elif kinds[c] == WINDOW or kinds[c] == READ_WINDOW:
            peaks[c] = state[c, PEAK]
    return stamps, cycle, peaks, waiting
