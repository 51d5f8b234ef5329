"""Sums of inputs with constant signs, one adder a term: binary and ternary weights.

With binary weights a term is a pair of inputs: +-a +-b is their sum or their difference, up to its sign. Both are
made once, as the inputs arrive (``gw_pair_sums``); each result takes one of them, added or subtracted. With
ternary weights, and those that are 0 or 1, a term is one input, added, subtracted or left out. These choices fit
into the LUTs of the adder that takes the term (``gw_contract_terms``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gatewright.ir.decoding import decoded_interval, digits, is_plain
from gatewright.ir.expressions import Expression, ExpressionBuilder
from gatewright.ir.formats import Binary, Format, Ternary
from gatewright.ir.intervals import IntegerArray, Interval
from gatewright.ir.streams.network import Component, Timing
from gatewright.ir.streams.units import ContractUnit, merge_runs
from gatewright.ir.targets import Target
from gatewright.ir.types import Value

WIDEST = 24
"""Inputs of up to this many bits, decoded, are added as integers; wider ones are shifted at every multiplier."""


def has_terms(stream: Value, constant: Value) -> bool:
    """Whether a product of ``stream`` with the weights ``constant`` is a sum of integers with constant signs."""
    if not isinstance(constant.format, Binary | Ternary):
        return False
    return not isinstance(stream.format, Binary) and summed_interval(stream).width <= WIDEST


def inputs_a_term(weights: Format) -> int:
    """2 where no weight is zero, so that inputs are taken in pairs."""
    return 2 if isinstance(weights, Binary) and weights.bipolar else 1


def summed_interval(stream: Value) -> Interval:
    """The interval of the integers that a stream's codes stand for."""
    return stream.interval if is_plain(stream.format) else decoded_interval(stream.format, stream.interval)


def summed_integer(stream: Value) -> Expression | None:
    """The integer that a code stands for; None where it is the code itself."""
    if is_plain(stream.format):
        return None
    builder = ExpressionBuilder([stream.interval])
    return builder.finish(digits(builder.inputs[0], stream.format).integer)


def choices(weights: Format, codes: IntegerArray) -> IntegerArray:
    """Two bits for every term of codes [..., inputs], the low one first: [..., terms, 2].

    A term's value is its input, or the sum or difference of its pair of inputs, with a sign. The high bit is the
    sign; the low one tells that the difference is taken, or, of a single input, that it is not left out.
    """
    if isinstance(weights, Binary) and weights.bipolar:
        negative, other = 1 - codes[..., 0::2], 1 - codes[..., 1::2]
        return np.stack([negative ^ other, negative], axis=-1)
    return np.stack([codes & 1, codes >> 1], axis=-1)


@dataclass(frozen=True, slots=True)
class PairSums(Component):
    """``gw_pair_sums``: the sum and the difference of every two neighbouring lanes, as one element."""

    @property
    def timing(self) -> Timing:
        return Timing("wires")


@dataclass(frozen=True, slots=True)
class TermContractUnit(ContractUnit):
    """``gw_contract_terms``: the contraction of terms with signs.

    ``weights`` are codes [groups, outputs, inputs] in ``weight_format``; ``inputs_per_beat`` counts inputs, not pairs.
    Where a beat holds all inputs it is kept for all results. Terms have ``term_width`` bits, of
    inputs that are ``signed`` or not; ``segment`` of them are added in one cycle.
    """

    weight_format: Format = field(default_factory=Ternary)
    term_width: int = 2
    signed: bool = False
    segment: int = 1

    @property
    def paired(self) -> bool:
        """Whether a term is a pair of inputs."""
        return inputs_a_term(self.weight_format) == 2

    @property
    def terms(self) -> int:
        """Terms a beat."""
        return self.inputs_per_beat // inputs_a_term(self.weight_format)

    @property
    def repeats(self) -> int:
        """Beats of results that one beat of inputs makes."""
        return self.output_blocks if self.input_beats == 1 else 1

    @property
    def timing(self) -> Timing:
        if self.input_beats > 1:
            phases = [(self.input_beats - 1, 1, 1, 0), (1, 1, 1, 1)]
        else:
            phases = [(1, 1, 1, 1), (self.repeats - 1, 0, 0, 1)]
        return Timing("pipeline", (self.latency, *merge_runs(phases)))

    def words(self, sum_width: int) -> list[int]:
        """The memory's words: for each output lane two bits a term, then its offset."""
        codes = self.weights.array.astype(np.int64)
        groups, outputs, _ = codes.shape
        codes = np.pad(codes, ((0, 0), (0, -outputs % self.outputs_per_beat), (0, 0)))
        chosen = choices(self.weight_format, codes)
        offsets = self._offsets(chosen[..., 0], chosen[..., 1])
        bits = chosen.reshape(groups, -1, self.input_beats, 2 * self.terms)
        lane_width = 2 * self.terms + sum_width
        found: list[int] = []
        for group in range(groups):
            for first in range(0, codes.shape[1], self.outputs_per_beat):
                for beat in range(self.input_beats):
                    word = 0
                    for lane in reversed(range(self.outputs_per_beat)):
                        taken = int("".join(str(bit) for bit in bits[group, first + lane, beat, ::-1]), 2)
                        offset = int(offsets[group, first + lane]) % (1 << sum_width)
                        word = (word << lane_width) | (offset << (2 * self.terms)) | taken
                    found.append(word)
        return found

    def _offsets(self, low: IntegerArray, high: IntegerArray) -> IntegerArray:
        """What is added to each sum of terms [groups, outputs]: a term is its value plus a bias, or that inverted."""
        bias = 1 << (self.term_width - 1)
        biases = np.where((low > 0) & self.paired, bias, bias if self.signed else 0)
        excess = np.where(high > 0, (1 << self.term_width) - 1 - biases, biases)
        return -np.where((low > 0) | self.paired, excess, 0).sum(axis=-1)


@dataclass(frozen=True, slots=True)
class TermPlan:
    """How many terms are added in a row in one cycle, and registers in the tree over these chains."""

    segment: int
    registers: int


def plan_terms(terms: int, sum_width: int, target: Target) -> TermPlan:
    """Chains as long as a cycle allows; the last level of the tree shares its cycle with the sum's own addition."""
    family = target.family
    adder = family.lut + family.carry + family.carry_bit * sum_width
    in_a_cycle = max(1, int(target.period // adder))
    chains = -(-terms // in_a_cycle)
    levels = (chains - 1).bit_length()
    return TermPlan(-(-terms // chains), max(0, -(-(levels + 1) // in_a_cycle) - 1))
