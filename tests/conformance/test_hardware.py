"""Every operator's samples in Verilator: equal to golden, lint-clean, in the declared cycles, at several tilings."""

from __future__ import annotations

import pytest

from gatewright.ir.operator import Operator
from tests.conformance.batch import Member, check_batch, member
from tests.conformance.cases import all_cases, inputs_of, sampled_operators, tilings

SAMPLES = 48


def members_of(operator: type[Operator]) -> list[Member]:
    """All samples of an operator, each from serial to fully parallel."""
    members: list[Member] = []
    for case in all_cases(operator):
        codes = inputs_of(case.integers, SAMPLES)
        for interval in sorted(set(tilings(case.integers).values())):
            label = f"{case.label} at interval {interval}"
            members.append(member(label, case.integers, interval, codes, len(members)))
    return members


@pytest.mark.parametrize("operator", sampled_operators(), ids=lambda cls: cls.name)
def test_rtl_equals_golden(operator: type[Operator]) -> None:
    check_batch(members_of(operator))
