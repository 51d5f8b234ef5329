"""The example of docs/adding-an-op.md works as it stands there."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gatewright.backends.torch.evaluate import run_real
from gatewright.diagnostics import GatewrightError
from gatewright.frontend.importer import import_model
from gatewright.ir import operator
from gatewright.ir.builder import Builder, interval_of_codes
from gatewright.ir.formats import Fixed
from gatewright.ir.types import Type
from gatewright.sim.golden import evaluate

PAGE = Path(__file__).parents[2] / "docs" / "adding-an-op.md"


class Shrink(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.softshrink(x, 0.25)


@pytest.fixture
def softshrink() -> Iterator[type[operator.Operator]]:
    """The page's operator, known only during a test."""
    (source,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.S)
    module = ModuleType("softshrink_of_the_page")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    operator.operators()
    exec(compile(source, str(PAGE), "exec"), module.__dict__)  # noqa: S102 (the page's own example)
    yield module.Softshrink
    del operator._REGISTRY["softshrink"], sys.modules[module.__name__]


def test_before(tmp_path: Path) -> None:
    with pytest.raises(GatewrightError) as caught:
        import_model(Shrink(), (torch.randn(2, 3),))
    assert "operator softshrink is not supported" in str(caught.value)


def test_import(softshrink: type[operator.Operator]) -> None:
    graph = import_model(Shrink(), (torch.randn(2, 3),))
    assert [node.op for node in graph.nodes] == [softshrink(0.25)]  # type: ignore[call-arg]
    x = torch.randn(5, 3).double()
    assert torch.equal(run_real(graph, [x])[0], F.softshrink(x, 0.25))


def test_samples_are_exact_at_every_code(softshrink: type[operator.Operator]) -> None:
    for sample in softshrink.samples():
        format = operator_format(sample.formats[0])
        builder = Builder("page")
        value = builder.input("x", Type((), format, interval_of_codes(format)))
        graph = builder.finish([sample.op.decompose(builder, value)])
        low, high = format.code_interval()
        codes = np.arange(low, high + 1)
        (found,) = evaluate(graph, [codes])
        reals = torch.from_numpy(format.decode(codes))
        expected = eval(sample.op.torch("x"), {"F": F, "x": reals})  # noqa: S307 (the operator's own text)
        assert np.array_equal(graph.outputs[0].format.decode(found), expected.numpy())


def operator_format(name: str | None) -> Fixed:
    """A sample's format."""
    from gatewright.ir.formats import parse_format

    format = parse_format(name or "")
    assert isinstance(format, Fixed)
    return format
