"""Folding of batch norms, and simplification."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gatewright.backends.torch.evaluate import run_real
from gatewright.frontend.importer import import_model
from gatewright.ir.graph import Graph
from gatewright.ir.ops.constant import Constant
from gatewright.ir.transforms.prepare import prepare
from tests.frontend.models import Case


def operator_names(graph: Graph) -> list[str]:
    return [
        node.op.name
        for node in graph.nodes
        if not isinstance(node.op, Constant) and not node.op.name.startswith(("parameter", "batch_norm_"))
    ]


def prepared(function: object, members: dict[str, nn.Module], *shapes: tuple[int, ...]) -> Graph:
    """The prepared graph, which still computes what the model computes."""
    case = Case(function, shapes, "", members)  # pyright: ignore[reportArgumentType]
    graph = prepare(import_model(case.model(), case.inputs()))
    others = [torch.randn_like(each).double() for each in case.inputs()]
    expected = case.model().eval().double()(*others)
    torch.testing.assert_close(run_real(graph, others)[0], expected, rtol=1e-9, atol=1e-9)
    return graph


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norms_fold_into_their_layers(bias: bool, affine: bool) -> None:
    members: dict[str, nn.Module] = {
        "first": nn.BatchNorm1d(4, affine=affine),
        "fc": nn.Linear(4, 3, bias=bias),
        "last": nn.BatchNorm1d(3, affine=affine),
    }
    graph = prepared(lambda m, x: torch.relu(m.last(m.fc(m.first(x)))), members, (2, 4))
    assert operator_names(graph) == ["linear", "relu"]
    (linear,) = (node for node in graph.nodes if node.op.name == "linear")
    assert linear.output.name == "fc"
    assert linear.location.module == "fc"
    sources = {node.op.source for node in graph.nodes if isinstance(node.op, Constant)}
    assert {"fc.weight", "first.running_mean", "last.running_var"} <= sources
    assert ("last.weight" in sources) == affine


def test_batch_norms_that_cannot_fold_stay() -> None:
    fc, norm = nn.Linear(4, 3), nn.BatchNorm1d(3)
    shared = prepared(lambda m, x: m.norm(h := m.fc(x)) + h, {"fc": fc, "norm": norm}, (2, 4))
    assert operator_names(shared) == ["linear", "batch_norm", "add"]
    rows = prepared(lambda m, x: m.norm(m.fc(x)), {"fc": fc, "norm": norm}, (2, 3, 4))
    assert operator_names(rows) == ["linear", "batch_norm"]
    alone = prepared(lambda m, x: torch.relu(m.norm(x)), {"norm": norm}, (2, 3))
    assert operator_names(alone) == ["batch_norm", "relu"]


def movements(m: nn.Module, x: Tensor) -> Tensor:
    h = x.transpose(1, 2).transpose(1, 2).view(2, 2, 6).reshape(2, 3, 4)
    h = (h.neg()).neg() + 0
    h = h * 1.0
    h = h.unsqueeze(1).permute(0, 2, 1, 3).squeeze(2)
    return torch.relu(nn.functional.dropout(h, 0.0))


def test_movements_join_and_neutral_elements_vanish() -> None:
    assert operator_names(prepared(movements, {}, (2, 3, 4))) == ["relu"]


def test_an_expansion_that_broadcasting_does_anyway_goes() -> None:
    graph = prepared(lambda m, x, y: x.expand(-1, 3, -1) * y, {}, (2, 1, 4), (2, 3, 4))
    assert operator_names(graph) == ["mul"]
    kept = prepared(lambda m, x: torch.relu(x.expand(-1, 3, -1)), {}, (2, 1, 4))
    assert operator_names(kept) == ["expand", "relu"]
