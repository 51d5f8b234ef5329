"""Every kind of kernel runs, and says where: nothing falls back in silence."""

from __future__ import annotations

import re

import pytest
import torch

from gatewright.backends.triton import contractions
from gatewright.backends.triton.golden import GoldenProgram
from gatewright.backends.triton.program import Program
from gatewright.ir.transforms.legalise import legalise
from gatewright.kernels.device import LAUNCHES
from tests.conformance.cases import inputs_of
from tests.triton_backend.checks import check_program
from tests.triton_backend.test_models import quantised
from tests.triton_backend.test_products import CASES, CASTS, cast_graph, product_graph
from tests.triton_backend.test_rows import softmax_graph

KINDS = ("encode", "map", "rows", "pad", "product", "sum")


def test_which_kernels_ran_where(
    where: torch.device, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    LAUNCHES.clear()
    for name in ("convolutions", "tokens"):
        graph, shape = quantised(name)
        GoldenProgram(graph, legalise(graph))(torch.randn(3, *shape, device=where))
    for limit in ("LARGE", "DEEP", "FILLING"):
        monkeypatch.setattr(contractions, limit, 1)
    products = [product_graph(*CASES[case]) for case in ("rows", "very wide", "beyond int64")]
    cast = cast_graph(*next(iter(CASTS.values())))
    for graph in (softmax_graph((3, 16)), cast, *products):
        check_program(graph, inputs_of(graph, 4), where)
    place = "gpu" if where.type == "cuda" else "interpreter"
    with capsys.disabled():
        print()
        for (kind, ran), count in sorted(LAUNCHES.items()):
            print(f"  {kind} on {ran}: {count} launches")
    printed = {f"printed {kind}" for kind in KINDS}
    library = {"integer_linear", "int8 matrix product", "float product"}
    assert {kind for kind, ran in LAUNCHES if ran == place} >= printed | library
    assert LAUNCHES["contract", "host"]


def test_the_text_names_what_no_printed_kernel_computes(where: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    for case, remark in (("very wide", "floating point"), ("beyond int64", "on the host, in Python integers")):
        graph = product_graph(*CASES[case])
        assert re.search(rf"^# %contract: .*{remark}", Program(graph).source(4), re.MULTILINE)
    for limit in ("LARGE", "DEEP"):
        monkeypatch.setattr(contractions, limit, 1)
    text = Program(product_graph(*CASES["rows"])).source(4)
    assert "# %contract: the library's product of int8 digits" in text
