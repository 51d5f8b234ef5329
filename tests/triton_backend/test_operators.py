"""Every operator's samples as kernels equal the golden model, corners included."""

from __future__ import annotations

import pytest
import torch

from gatewright.ir.operator import Operator
from tests.conformance.cases import all_cases, inputs_of, sampled_operators
from tests.triton_backend.checks import check_program


@pytest.mark.parametrize("operator", sampled_operators(), ids=lambda each: each.name)
def test_samples(operator: type[Operator], where: torch.device) -> None:
    for case in all_cases(operator):
        check_program(case.integers, inputs_of(case.integers, 6), where)
