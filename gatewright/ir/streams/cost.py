"""Estimated resources of the components of a network, before any synthesis.

The constants were fitted to Yosys 0.70 `synth_xilinx -family xcup`; see docs/architecture.md. An
estimate guides folding and budgets; :meth:`gatewright.api.Design.synth` measures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gatewright.ir.streams.cells import Adapter, Fifo, Fork, Reorder, Repeat, Replay
from gatewright.ir.streams.network import Component, Network
from gatewright.ir.streams.products import Product
from gatewright.ir.streams.terms import PairSums, TermContractUnit
from gatewright.ir.streams.units import (
    ContractUnit,
    LaneReduceUnit,
    MapUnit,
    ReduceUnit,
    RewireUnit,
    SequenceUnit,
)
from gatewright.ir.streams.window_units import ColumnWindow, LineBuffer, WindowUnit

MEMORY_BITS = 18_432
"""Bits of one block memory (half of a 36 kb block)."""
BLOCK_WORDS = 512
"""Words of one block memory at its full width of 36 bits."""
BITS_PER_LUT = 17
"""Bits of a read-only memory in logic per LUT, as Yosys maps tables without structure."""
LUTS_PER_BLOCK = 150
"""Logic that a block memory is worth."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Estimated LUTs, flip-flops, multipliers (DSP) and 18 kb block memories."""

    lut: float = 0.0
    ff: float = 0.0
    dsp: float = 0.0
    bram: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.lut + other.lut, self.ff + other.ff, self.dsp + other.dsp, self.bram + other.bram)


def block_memories(words: int, width: int) -> int:
    """18 kb blocks for a memory of this shape."""
    if words <= BLOCK_WORDS:
        return -(-width // 36)
    return max(-(-words * width // MEMORY_BITS), -(-width // 18) * -(-words // (4 * BLOCK_WORDS)))


def prefers_block(words: int, width: int) -> bool:
    """Whether a read-only memory is cheaper in block memory than in logic."""
    return words * width / BITS_PER_LUT > LUTS_PER_BLOCK * block_memories(words, width)


def rom_cost(words: int, width: int) -> Cost:
    """A read-only memory."""
    if prefers_block(words, width):
        return Cost(bram=block_memories(words, width))
    return Cost(lut=words * width / BITS_PER_LUT)


def memory_cost(words: int, width: int) -> Cost:
    """A memory with a write and a read port: distributed (its cells are not counted as LUTs) while shallow."""
    return Cost() if words <= 256 else Cost(bram=block_memories(words, width))


def counter_cost(period: int) -> Cost:
    """A counter that wraps at ``period``."""
    bits = max(period - 1, 0).bit_length()
    return Cost(lut=1.5 * bits, ff=bits)


def _fifo(each: Fifo) -> Cost:
    width = each.inputs[0].width
    if each.depth <= 2:
        return Cost(lut=width + 3, ff=2 * width + 2)
    return memory_cost(each.depth, width) + counter_cost(each.depth) + counter_cost(each.depth) + Cost(6, width + 2)


def _replay(each: Replay) -> Cost:
    width = each.inputs[0].width
    pointers = counter_cost(each.depth) + counter_cost(each.depth) + counter_cost(each.repeats)
    return memory_cost(each.depth, width) + pointers + Cost(10, width + 2)


def _reorder(each: Reorder) -> Cost:
    width = each.inputs[0].width
    loops = Cost()
    for count in each.counts:
        loops += counter_cost(count)
    return memory_cost(2 * each.count, width) + loops + counter_cost(2 * each.count) + Cost(15, width + 6)


def _adapter(each: Adapter) -> Cost:
    kind = each.timing.kind
    wide = max(each.inputs[0].width, each.outputs[0].width)
    narrow = min(each.inputs[0].width, each.outputs[0].width)
    if kind == "wires":
        return Cost()
    if kind == "up":
        return Cost(5 + wide / max(narrow, 1), wide + 4)
    if kind == "down":
        return Cost(5 + wide / 4, wide + 4)
    return Cost(20 + wide * 1.5, 3 * wide + 8)


def _line_buffer(each: LineBuffer) -> Cost:
    width = each.inputs[0].width
    masks = 0.5 * each.outputs[0].width if each.pad_before or each.total_lines > each.lines else 0.0
    counters = counter_cost(each.beats) + counter_cost(each.total_lines)
    return memory_cost(each.beats, each.delays * width) + counters + Cost(8 + masks, width * (each.delays + 1) + 10)


def _column_window(each: ColumnWindow) -> Cost:
    axis = each.columns.axis
    is_masked = axis.before > 0 or axis.after > 0
    masks = 0.5 * each.outputs[0].width if is_masked else 0.0
    counters = counter_cost(each.columns.slots) + counter_cost(each.lines + 1)
    return counters + Cost(10 + masks, each.held * (each.inputs[0].width + 2) + 4)


def _window(each: WindowUnit) -> Cost:
    loops = Cost()
    for count in each.counts:
        loops += counter_cost(count)
    address, level = max(each.depth - 1, 1).bit_length(), each.level_width
    masks = each.padded[0] * 3 * each.row_width + each.padded[1] * 3 * each.column_width
    fill = 0.5 * each.inputs[0].width if any(each.padded) else 0.0
    lut = 4.0 * address + 5.0 * level + masks + fill + 15
    return memory_cost(each.depth, each.inputs[0].width) + loops + Cost(lut, 2.0 * (address + level) + 10)


def booth_luts(first: int, second: int) -> float:
    """A product in logic: a row of the wider operand for every two bits of the narrower one."""
    return (min(first, second) + 2) // 2 * (max(first, second) + 2)


def multiplier_cost(product: Product, count: int) -> Cost:
    """``count`` multipliers of packed operands, the shifts by their exponents included."""
    left, right = product.left, product.right
    widest, narrowest = max(left.width, right.width), min(left.width, right.width)
    lut = (
        0.8 * (product.width + product.exponent_max) + product.exponent_max.bit_length()
        if product.exponent_max
        else 0.0
    )
    if product.hard:
        return Cost(lut=count * lut, dsp=count)
    if product.table is not None:
        lut += product.width
    elif narrowest > 1:
        # A row of the left operand for every two bits of the right one and its sign.
        lut += (right.width + (1 if right.signed else 2)) // 2 * (left.width + 2)
    elif not (left.unit or right.unit):
        lut += 0.5 * widest
    return Cost(lut=count * lut, ff=count * (product.width + product.exponent_max))


def _contract(each: ContractUnit) -> Cost:
    data, total = each.inputs[0].value.width, each.outputs[0].value.width
    product = data + each.weight_interval.width
    if each.product is not None:
        product = each.product.width + each.product.exponent_max
    multipliers, outputs = each.multipliers, each.columns * each.outputs_per_beat
    words = each.weights.shape[0] * each.output_blocks * each.input_beats
    tree = outputs * (each.inputs_per_beat - 1) * (product + 1)
    accumulate = outputs * total * (1 if each.input_beats > 1 else 0)
    cost = Cost(lut=tree + accumulate + 6, ff=outputs * total + 6 + multipliers * 1.0)
    cost += Cost(dsp=multipliers) if each.product is None else multiplier_cost(each.product, multipliers)
    weights = each.inputs_per_beat * each.outputs_per_beat
    return cost + rom_cost(words, weights * each.weight_interval.width) + counter_cost(words)


def _pair_sums(each: PairSums) -> Cost:
    return Cost(lut=each.outputs[0].width)


def _term_contract(each: TermContractUnit) -> Cost:
    total, outputs, chains = each.outputs[0].value.width, each.outputs_per_beat, -(-each.terms // each.segment)
    # A chain grows by a bit with every doubling, which takes no LUT: a term has none there.
    chain = each.term_width + (each.segment - 1).bit_length()
    lut = outputs * (each.terms * each.term_width + (chains - 1) * (chain + 1) + total)
    registers = outputs * (chains * chain + total * (3 + each.tree_registers))
    cost = Cost(lut=lut + 8, ff=each.inputs[0].width + registers + 6) + counter_cost(each.repeats)
    words = each.weights.shape[0] * each.output_blocks * each.input_beats
    # Most offsets have the same high bits, where inputs are biased alike.
    offset = min(each.weights.shape[2].bit_length() + 1, total)
    return cost + rom_cost(words, outputs * (2 * each.terms + offset)) + counter_cost(words)


def _map(each: MapUnit) -> Cost:
    lanes = each.outputs[0].layout.lanes
    lut = 0.0
    memories = Cost()
    for node in each.expression.nodes:
        if node.op in ("input", "constant", "shl", "shr", "wrap"):
            continue
        if node.op == "table":
            for _ in range(lanes):
                memories += rom_cost(len(node.attributes[1]), node.interval.width)
            continue
        if node.op == "mul" and each.hard:
            memories += Cost(dsp=lanes)
            continue
        if node.op == "mul":
            first, second = (each.expression.nodes[arg].interval.width for arg in node.args)
            lut += booth_luts(first, second)
            continue
        lut += node.interval.width * (2.0 if node.op in ("shlv", "shrv") else 1.0)
    for _, table, interval in each.tables:
        memories += rom_cost(len(table.array), lanes * interval.width)
    width = sum(node.interval.width for node in each.expression.nodes if node.op != "constant")
    registers = lanes * each.outputs[0].value.width + lanes * width * max(each.latency - 1, 0) / 2
    return memories + Cost(lut=lanes * lut + 3, ff=registers + each.latency)


def _reduce(each: ReduceUnit) -> Cost:
    lanes, total = each.inputs[0].layout.lanes, each.outputs[0].value.width
    cost = Cost(lut=lanes * total * 1.2 + 5, ff=each.outputs[0].width + 4) + counter_cost(each.count)
    return cost + (memory_cost(each.inner, each.outputs[0].width) if each.inner > 1 else Cost())


def _reduce_lanes(each: LaneReduceUnit) -> Cost:
    lanes, total = each.outputs[0].layout.lanes, each.outputs[0].value.width
    return Cost(lut=lanes * (each.count - 1) * total * 1.2 + 2, ff=each.outputs[0].width + 1)


def _sequence(each: SequenceUnit) -> Cost:
    width = each.outputs[0].width
    longest = max((segment.count for segment in each.segments), default=1)
    return Cost(width * max(len(each.inputs) - 1, 0.5) + 10, width + 5) + counter_cost(longest)


ESTIMATES: dict[type[Component], Callable[[Any], Cost]] = {
    Fifo: _fifo,
    Fork: lambda each: Cost(2.0 * len(each.outputs), len(each.outputs)),
    Replay: _replay,
    Repeat: lambda each: counter_cost(each.repeats) + Cost(2, each.inputs[0].width + 1),
    Reorder: _reorder,
    Adapter: _adapter,
    ContractUnit: _contract,
    PairSums: _pair_sums,
    TermContractUnit: _term_contract,
    MapUnit: _map,
    ReduceUnit: _reduce,
    LaneReduceUnit: _reduce_lanes,
    ColumnWindow: _column_window,
    LineBuffer: _line_buffer,
    WindowUnit: _window,
    SequenceUnit: _sequence,
    RewireUnit: lambda each: Cost(3, each.outputs[0].width + 1),
}


def estimate(component: Component) -> Cost:
    """The estimated resources of one component."""
    return ESTIMATES[type(component)](component)


def estimate_network(network: Network) -> Cost:
    """The estimated resources of a whole network."""
    total = Cost()
    for each in network.components:
        total += estimate(each)
    return total
