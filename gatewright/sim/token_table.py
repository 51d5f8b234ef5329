"""What lies where in the memory of the token-level simulation.

All that its compiled processes read and write is one array of integers: a record for each channel and for each
component, lists (a length, then the entries) and rings of times. Records are known by where they begin; the names
here are the columns of a record.
"""

from __future__ import annotations

SOURCE, SINK, FIFO, FORK, REPLAY, REORDER, UP, DOWN, RING, PIPELINE, WINDOW, READ_WINDOW, READ_REPLAY = range(13)
ENDLESS = 1 << 40
"""The depth of a buffer that is never full."""

# A channel: the beats of which something is said, the beats taken and the cycles of the first and the last; whether the
# reader is buffered, both ends, whether the writer waits with a beat, and the count that each end has last been told.
KNOWN, TAKEN, FIRST, LAST, BUFFERED, WRITER, READER, WAITS, TOLD_WRITER, TOLD_READER = range(10)
# Its rings have a length of a power of two, ``MASK`` + 1: what is said, when beats were taken, and freed by the reader.
MASK, SAID, TAKES, FREES = range(10, 14)
CHANNEL_SIZE = 14

# A component: its kind, lists, first channels and beats a sample (ports), and the ring of a pipeline's results.
KIND, PARAMETERS, INPUTS, OUTPUTS, INPUT, OUTPUT, BEATS, RESULTS, RESULT_MASK, QUEUED = range(10)
# Beats done; whether a word is in the output register, when it came, and when the one before it left; words freed
# and the most in use, with the words that came and those freed that have been looked at for that.
DONE, LOADED, LOADED_AT, PREVIOUS, FREED, PEAK, SEEN, LEFT = range(10, 18)
# Four whose meaning depends on the kind.
A, B, D, E = range(18, 22)
# Pipelines count cycles in which they advance: local ones. The run of the program and the phases done in it, the first
# local cycle in which the next may take place, the stalls before it; results made, offered, and those whose stall
# is in the stalls; the stalls before the next offer.
RUN, PHASE, NEXT, STALLS, MADE, OFFERED, COUNTED, STALLS_AFTER = range(22, 30)
# Windows: offset, row and column, whether a sample begins, words passed, how many loops make up one result, the
# distance to the farthest word, how those loops move offset, row and column, and the loops' turns.
OFFSET, ROW, COLUMN, BEGINS, PASSED, PREFIX, SPAN, MOVED = range(30, 38)
TURNS, MOST_LOOPS = 40, 10
COMPONENT_SIZE = TURNS + MOST_LOOPS
