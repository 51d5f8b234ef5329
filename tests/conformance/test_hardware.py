"""Every operator's samples in Verilator: equal to golden, lint-clean, in the declared cycles, at several tilings."""

from __future__ import annotations

import pytest

from gatewright.diagnostics import GatewrightError
from gatewright.ir.operator import Operator
from gatewright.ir.targets import Target
from gatewright.schedule import schedule
from tests.conformance.batch import Member, check_batch, member
from tests.conformance.cases import all_cases, inputs_of, sampled_operators, tilings

SAMPLES = 48
WITHOUT_HARDWARE = {"matmul[1]": "GW0710", "matmul[2]": "GW0710"}
"""Samples that the compiler refuses, and the code of its error. Nothing else is left out."""


def members_of(operator: type[Operator]) -> list[Member]:
    """All samples of an operator, each from serial to fully parallel."""
    members: list[Member] = []
    for case in all_cases(operator):
        if case.label in WITHOUT_HARDWARE:
            continue
        codes = inputs_of(case.integers, SAMPLES)
        for interval in sorted(set(tilings(case.integers).values())):
            label = f"{case.label} at interval {interval}"
            members.append(member(label, case.integers, interval, codes, len(members)))
    return members


@pytest.mark.parametrize("operator", sampled_operators(), ids=lambda cls: cls.name)
def test_rtl_equals_golden(operator: type[Operator]) -> None:
    check_batch(members_of(operator))


def test_what_has_no_hardware_is_refused_with_advice() -> None:
    """The list above is complete and has nothing that works by now."""
    refused: dict[str, str] = {}
    for operator in sampled_operators():
        for case in all_cases(operator):
            try:
                schedule(case.integers, Target())
            except GatewrightError as problem:
                refused[case.label] = problem.code
                assert all(each.help for each in problem.diagnostics), str(problem)
    assert refused == WITHOUT_HARDWARE
