"""The compiled loop of the token-level simulation.

One cycle is two sweeps and an update: valid flags forward, ready flags backward (components are in
topological order), then every state machine moves. Tables hold a length first, then the entries.
"""
# pyright: basic
# numba's decorator has no types, and the loop is written in the subset that it compiles.

from __future__ import annotations

import numba
import numpy as np

SOURCE, SINK, FIFO, FORK, WIRES, REPLAY, REORDER, UP, DOWN, RING, PIPELINE, WINDOW = range(12)
STATE_SIZE = 16
# A window's state: valid, level, offset, row, column, whether a sample starts, then one counter a loop.
COUNTERS = 6


@numba.njit(cache=True)
def _phase(parameters, state):
    """The index of the run of a pipeline's program that the next phase belongs to."""
    return 2 + 4 * state[1]


@numba.njit(cache=True)
def _pipeline_can_fire(parameters, state, inputs, valid):
    run = 2 + 4 * state[1]
    needed = parameters[run + 1]
    for k in range(inputs[0]):
        if (needed >> k) & 1 and not valid[inputs[1 + k]]:
            return False
    return True


@numba.njit(cache=True)
def _window_available(parameters, state):
    """Whether the word that a window reads next has been written, or is padding of a sample that has begun."""
    row, column = state[3], state[4]
    top, left = parameters[8], parameters[9]
    outside = parameters[4] == 1 and (row < top or row >= top + parameters[6])
    outside = outside or (parameters[5] == 1 and (column < left or column >= left + parameters[7]))
    if outside:
        return state[5] == 0 or state[1] > parameters[3]
    return state[2] < state[1]


@numba.njit(cache=True)
def _window_step(parameters, state):
    """Move a window to its next word; the words that it leaves behind."""
    loops = parameters[1]
    turn = 0
    while turn < loops:
        state[COUNTERS + turn] += 1
        if state[COUNTERS + turn] < parameters[10 + turn]:
            break
        state[COUNTERS + turn] = 0
        turn += 1
    steps = 10 + loops + turn
    state[2] += parameters[steps]
    state[3] += parameters[steps + 2 * (loops + 1)]
    state[4] += parameters[steps + 3 * (loops + 1)]
    state[5] = 1 if turn == loops else 0
    return parameters[steps + loops + 1]


@numba.njit(cache=True)
def _offer(kind, parameters, state, inputs, outputs, valid, beats, samples):
    """Set the valid flags of a component's outputs."""
    if kind == SOURCE:
        valid[outputs[1]] = state[0] < beats * samples
    elif kind == FORK:
        for k in range(outputs[0]):
            valid[outputs[1 + k]] = valid[inputs[1]] and not (state[0] >> k) & 1
    elif kind == WIRES:
        valid[outputs[1]] = valid[inputs[1]]
    elif kind == FIFO:
        valid[outputs[1]] = state[0] > 0 if parameters[1] <= 2 else state[2] == 1
    elif kind == RING:
        valid[outputs[1]] = state[1] > 0 or state[0] >= parameters[2]
    elif kind == PIPELINE:
        valid[outputs[1]] = (state[0] >> (parameters[1] - 1)) & 1 == 1
    elif kind != SINK:
        valid[outputs[1]] = state[0] == 1


@numba.njit(cache=True)
def _accept(kind, parameters, state, inputs, outputs, valid, ready):
    """Set the ready flags of a component's inputs."""
    if kind == SINK:
        ready[inputs[1]] = True
    elif kind == FORK:
        every = True
        for k in range(outputs[0]):
            every = every and (ready[outputs[1 + k]] or (state[0] >> k) & 1 == 1)
        ready[inputs[1]] = every
    elif kind == WIRES:
        ready[inputs[1]] = ready[outputs[1]]
    elif kind == FIFO:
        held, limit = (state[0], parameters[1]) if parameters[1] <= 2 else (state[1], parameters[1] - 1)
        ready[inputs[1]] = held < limit
    elif kind == REPLAY:
        ready[inputs[1]] = state[1] < parameters[3]
    elif kind == WINDOW:
        ready[inputs[1]] = state[1] < parameters[2]
    elif kind == REORDER:
        ready[inputs[1]] = state[1] < 2
    elif kind == UP:
        ready[inputs[1]] = ready[outputs[1]] or state[0] == 0
    elif kind == DOWN:
        length = parameters[2] if state[2] == parameters[3] - 1 else parameters[1]
        ready[inputs[1]] = state[0] == 0 or (ready[outputs[1]] and state[1] + 1 == length)
    elif kind == RING:
        ready[inputs[1]] = state[1] < 2 and state[0] <= (parameters[2] - 1) * parameters[1]
    elif kind == PIPELINE:
        advance = ready[outputs[1]] or not valid[outputs[1]]
        fires = advance and _pipeline_can_fire(parameters, state, inputs, valid)
        consumed = parameters[_phase(parameters, state) + 2]
        for k in range(inputs[0]):
            ready[inputs[1 + k]] = fires and (consumed >> k) & 1 == 1


@numba.njit(cache=True)
def _move(kind, parameters, state, inputs, outputs, valid, ready):
    """Advance a component's state over the clock edge."""
    taken = inputs[0] > 0 and valid[inputs[1]] and ready[inputs[1]]
    given = outputs[0] > 0 and valid[outputs[1]] and ready[outputs[1]]
    load = outputs[0] > 0 and (ready[outputs[1]] or not valid[outputs[1]])
    if kind == SOURCE:
        state[0] += given
    elif kind == SINK:
        state[0] += taken
    elif kind == FORK:
        if valid[inputs[1]]:
            done = state[0]
            for k in range(outputs[0]):
                if ready[outputs[1 + k]]:
                    done |= 1 << k
            state[0] = 0 if done == (1 << outputs[0]) - 1 else done
    elif kind == FIFO:
        if parameters[1] <= 2:
            state[0] += taken
            state[0] -= given
        else:
            if load:
                state[2] = 1 if state[1] > 0 else 0
                state[1] -= state[2]
            state[1] += taken
            state[0] += taken
            state[0] -= given
        state[3] = max(state[3], state[0])
    elif kind == REPLAY:
        window, repeats = parameters[1], parameters[2]
        if load:
            state[0] = 1 if state[4] > 0 or state[2] > 0 else 0
            if state[0] == 1:
                state[2] -= state[4] == 0
                state[1] -= state[4] == repeats - 1
                state[3] += 1
                if state[3] == window:
                    state[3] = 0
                    state[4] = (state[4] + 1) % repeats
        state[1] += taken
        state[2] += taken
    elif kind == WINDOW:
        passed = 0
        if load:
            state[0] = 1 if _window_available(parameters, state) else 0
            if state[0] == 1:
                passed = _window_step(parameters, state)
        state[1] += taken - passed
    elif kind == REORDER:
        freed = 0
        if load:
            state[0] = 1 if state[1] > 0 else 0
            state[3] += state[0]
            if state[3] == parameters[2]:
                freed = 1
                state[3] = 0
        state[2] += taken
        filled = 1 if state[2] == parameters[1] else 0
        if filled == 1:
            state[2] = 0
        state[1] += filled - freed
    elif kind == UP:
        if load:
            state[0] = 0
            if taken:
                state[1] += 1
                if state[1] == (parameters[2] if state[2] == parameters[3] - 1 else parameters[1]):
                    state[0] = 1
                    state[1] = 0
                    state[2] = (state[2] + 1) % parameters[3]
    elif kind == DOWN:
        accepts = ready[inputs[1]]
        if given:
            end = state[1] + 1 == (parameters[2] if state[2] == parameters[3] - 1 else parameters[1])
            state[1] = 0 if end else state[1] + 1
            state[2] = (state[2] + end) % parameters[3]
        if accepts:
            state[0] = 1 if taken else 0
    elif kind == RING:
        fill = state[0] + parameters[1] * taken - (parameters[2] if given and state[1] == 0 else 0)
        if parameters[5] == 0:
            state[2] = (state[2] + taken) % parameters[3]
            state[3] = (state[3] + given) % parameters[4]
            written = 1 if taken and state[2] == 0 else 0
            delivered = 1 if given and state[3] == 0 else 0
            state[1] += written - delivered
            if written == 1:
                fill = 0
        state[0] = fill
    elif kind == PIPELINE and load:
        fired = _pipeline_can_fire(parameters, state, inputs, valid)
        run = _phase(parameters, state)
        produced = parameters[run + 3] if fired else 0
        state[0] = ((state[0] << 1) | produced) & ((1 << parameters[1]) - 1)
        if fired:
            state[2] += 1
            if state[2] == parameters[run]:
                state[2] = 0
                state[1] = (state[1] + 1) % ((parameters[0] - 1) // 4)


@numba.njit(cache=True)
def run_loop(kinds, parameters, inputs, outputs, beats, samples, idle_limit):
    """Run until every sink has all samples.

    Returns the cycles of each sample's first and last transfer per component (sources and sinks), the
    cycles taken (-1 for a deadlock), the FIFOs' peaks, and which components wait at the end.
    """
    count = len(kinds)
    channels = 1 + max(inputs[:, 1:].max(), outputs[:, 1:].max())
    valid = np.zeros(channels, np.bool_)
    ready = np.zeros(channels, np.bool_)
    state = np.zeros((count, STATE_SIZE), np.int64)
    for c in range(count):
        if kinds[c] == WINDOW:
            state[c, 1] = parameters[c, 3]
            state[c, 5] = 1
    stamps = np.zeros((count, samples, 2), np.int64)
    peaks = np.zeros(count, np.int64)
    waiting = np.zeros(count, np.bool_)
    cycle = 0
    idle = 0
    while True:
        for c in range(count):
            _offer(kinds[c], parameters[c], state[c], inputs[c], outputs[c], valid, beats[c], samples)
        for c in range(count - 1, -1, -1):
            _accept(kinds[c], parameters[c], state[c], inputs[c], outputs[c], valid, ready)
        moved = False
        unfinished = False
        for channel in range(channels):
            moved = moved or (valid[channel] and ready[channel])
        for c in range(count):
            if kinds[c] == SOURCE or kinds[c] == SINK:
                channel = outputs[c, 1] if kinds[c] == SOURCE else inputs[c, 1]
                done = state[c, 0]
                if valid[channel] and ready[channel] and done < beats[c] * samples:
                    sample = done // beats[c]
                    if done % beats[c] == 0:
                        stamps[c, sample, 0] = cycle
                    stamps[c, sample, 1] = cycle
                    done += 1
                unfinished = unfinished or (kinds[c] == SINK and done < beats[c] * samples)
        for c in range(count):
            waiting[c] = outputs[c, 0] > 0 and valid[outputs[c, 1]] and not ready[outputs[c, 1]]
            _move(kinds[c], parameters[c], state[c], inputs[c], outputs[c], valid, ready)
        cycle += 1
        idle = 0 if moved else idle + 1
        if idle > idle_limit:
            return stamps, -1, peaks, waiting
        if not unfinished:
            break
    for c in range(count):
        if kinds[c] == FIFO:
            peaks[c] = state[c, 3]
    return stamps, cycle, peaks, waiting
