"""Components that make the windows of convolutions and poolings."""

from __future__ import annotations

from dataclasses import dataclass, field

from gatewright.ir.streams.geometry import Axis, Columns
from gatewright.ir.streams.network import Component, Timing
from gatewright.ir.streams.units import Phase, merge_runs


@dataclass(frozen=True, slots=True)
class LineBuffer(Component):
    """``gw_line_buffer``: for each beat the same beat of the ``taps`` lines of one kernel axis, side by side.

    A run of ``lines`` lines of ``beats`` beats gives ``out_lines`` lines; ``pad_before`` lines of padding precede it
    and as many as needed follow. ``fill`` is the code of padding.
    """

    beats: int = 1
    lines: int = 1
    out_lines: int = 1
    taps: int = 1
    dilation: int = 1
    stride: int = 1
    pad_before: int = 0
    fill: int = 0

    @property
    def delays(self) -> int:
        """Lines that the memory holds."""
        return (self.taps - 1) * self.dilation

    @property
    def total_lines(self) -> int:
        """Lines that pass: those of the input, and padding after them."""
        return max(self.lines, (self.out_lines - 1) * self.stride + self.delays - self.pad_before + 1)

    @property
    def memory_bits(self) -> int:
        """Bits of the memory."""
        return self.delays * self.beats * self.inputs[0].width

    @property
    def timing(self) -> Timing:
        phases: list[Phase] = []
        first = self.delays - self.pad_before
        for line in range(self.total_lines):
            is_input = int(line < self.lines)
            completes = line >= first and (line - first) % self.stride == 0
            phases.append((self.beats, is_input, is_input, int(completes)))
        return Timing("pipeline", (1, *merge_runs(phases)))


@dataclass(frozen=True, slots=True)
class ColumnWindow(Component):
    """``gw_column_window``: the windows of several neighbouring ``columns`` of every line, side by side.

    ``lines`` lines make a sample; a pixel of them has ``rows`` times ``channels`` elements. ``fill`` is the code of
    padding.
    """

    columns: Columns = field(default_factory=lambda: Columns(Axis(1), 1))
    lines: int = 1
    rows: int = 1
    channels: int = 1
    fill: int = 0

    @property
    def held(self) -> int:
        """Beats in registers."""
        return self.columns.before + self.columns.after + 1

    @property
    def tail(self) -> int:
        """Pixels of a line's last beat."""
        return self.columns.axis.size - (self.columns.beats_in - 1) * self.columns.pixels

    @property
    def timing(self) -> Timing:
        plan = self.columns
        phases: list[Phase] = []
        for line in range(self.lines + 1):
            for slot in range(plan.slots if line < self.lines else plan.flush):
                takes = int(line < self.lines and slot < plan.beats_in)
                begin = slot - plan.after
                emits = begin < plan.beats_out if begin >= 0 else line > 0 and begin + plan.slots < plan.beats_out
                phases.append((1, takes, takes, int(emits)))
        return Timing("pipeline", (1, *merge_runs(phases)))


@dataclass(frozen=True, slots=True)
class Loop:
    """One loop of a window's nest: ``count`` turns, each ``words`` further in the input and ``row`` and ``column``
    further in the padded image. ``moves`` marks the loops over output positions.
    """

    count: int
    words: int = 0
    row: int = 0
    column: int = 0
    moves: bool = False


@dataclass(frozen=True, slots=True)
class WindowUnit(Component):
    """``gw_window``: the words of every window in the order of ``loops``, the fastest first.

    ``sample_words`` words make a sample; the memory has ``depth`` words. ``preload`` words of padding precede
    a sample. ``rows`` and ``columns`` bound the input inside its padding; ``padded`` tells which axes have any.
    """

    loops: tuple[Loop, ...] = ()
    sample_words: int = 1
    depth: int = 1
    preload: int = 0
    rows: int = 1
    columns: int = 1
    pad_top: int = 0
    pad_left: int = 0
    padded: tuple[bool, bool] = (False, False)
    fill: int = 0

    @property
    def span(self) -> int:
        """Words from the first to the last of one window: the least depth."""
        return 1 + sum((each.count - 1) * each.words for each in self.loops if not each.moves)

    @property
    def memory_bits(self) -> int:
        """Bits of the memory."""
        return self.depth * self.inputs[0].width

    @property
    def counts(self) -> list[int]:
        """Turns of every loop."""
        return [each.count for each in self.loops]

    @property
    def level_width(self) -> int:
        """Bits that hold the words between the window's first and the next to be written, with sign."""
        return (self.depth + self.preload + self.sample_words).bit_length() + 2

    @property
    def column_width(self) -> int:
        """Bits that hold a column of the padded image."""
        return max(
            sum((each.count - 1) * each.column for each in self.loops), self.pad_left + self.columns
        ).bit_length()

    @property
    def row_width(self) -> int:
        """Bits that hold a row of the padded image."""
        return max(sum((each.count - 1) * each.row for each in self.loops), self.pad_top + self.rows).bit_length()

    def _steps(self, amounts: list[int], sample: int) -> list[int]:
        """What each loop adds when it turns and all faster ones return; last, the next sample."""
        steps: list[int] = []
        rewind = 0
        for each, amount in zip(self.loops, amounts, strict=True):
            steps.append(amount - rewind)
            rewind += (each.count - 1) * amount
        return [*steps, sample - rewind]

    @property
    def address_steps(self) -> list[int]:
        """Steps of the read address, modulo the depth."""
        steps = self._steps([each.words for each in self.loops], self.sample_words)
        return [step % self.depth for step in steps]

    @property
    def offset_steps(self) -> list[int]:
        """Steps of the distance from the window's first word."""
        return self._steps([0 if each.moves else each.words for each in self.loops], 0)

    @property
    def row_steps(self) -> list[int]:
        """Steps of the row in the padded image."""
        return self._steps([each.row for each in self.loops], 0)

    @property
    def column_steps(self) -> list[int]:
        """Steps of the column in the padded image."""
        return self._steps([each.column for each in self.loops], 0)

    @property
    def advances(self) -> list[int]:
        """Words that a step leaves behind."""
        steps = self._steps([each.words if each.moves else 0 for each in self.loops], self.sample_words)
        kept = [each.moves for each in self.loops]
        return [step if moves else 0 for step, moves in zip(steps, [*kept, True], strict=True)]

    @property
    def timing(self) -> Timing:
        head = (len(self.loops), self.depth, self.preload, int(self.padded[0]), int(self.padded[1]))
        image = (self.rows, self.columns, self.pad_top, self.pad_left)
        tables = (self.counts, self.offset_steps, self.advances, self.row_steps, self.column_steps)
        return Timing("window", (*head, *image, *(number for table in tables for number in table)))
