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


def norm2d(channels: int) -> nn.BatchNorm2d:
    """A batch norm whose every parameter matters."""
    norm = nn.BatchNorm2d(channels)
    for each in (norm.weight, norm.bias, norm.running_mean):
        assert each is not None
        nn.init.normal_(each)
    assert norm.running_var is not None
    nn.init.uniform_(norm.running_var, 0.5, 2.0)
    return norm


BEFORE: dict[str, nn.Module] = {
    "padded": nn.Conv2d(4, 6, 3, padding=1),
    "same": nn.Conv2d(4, 6, (2, 3), padding="same", bias=False),
    "groups": nn.Conv2d(4, 6, (3, 1), (2, 1), (1, 0), groups=2),
    "depthwise": nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=4),
    "transposed": nn.ConvTranspose2d(4, 6, 3, 2, 1, 1),
    "transposed without bias": nn.ConvTranspose2d(4, 6, (2, 3), (2, 1), bias=False),
    "transposed groups": nn.ConvTranspose2d(4, 6, 3, 2, groups=2),
}


@pytest.mark.parametrize("name", BEFORE)
def test_batch_norms_fold_into_the_convolution_before(name: str) -> None:
    torch.manual_seed(0)
    layer = BEFORE[name]
    channels = layer.out_channels
    assert isinstance(channels, int)
    graph = prepared(lambda m, x: m.norm(m.layer(x)), {"layer": layer, "norm": norm2d(channels)}, (2, 4, 6, 5))
    assert operator_names(graph) == ["conv_transpose" if "transposed" in name else "conv"]


AFTER: dict[str, tuple[nn.Module, bool]] = {
    "plain": (nn.Conv2d(4, 6, 3), True),
    "pointwise": (nn.Conv2d(4, 6, 1, bias=False), True),
    "strided groups": (nn.Conv2d(4, 6, (3, 2), 2, groups=2), True),
    "depthwise": (nn.Conv2d(4, 8, 3, groups=4, bias=False), True),
    "padded": (nn.Conv2d(4, 6, 3, padding=1), False),
    "padded behind": (nn.Conv2d(4, 6, (2, 1), padding="same"), False),
    "transposed": (nn.ConvTranspose2d(4, 6, 2, 2), False),
}


@pytest.mark.parametrize("name", AFTER)
def test_batch_norms_fold_into_the_convolution_after_unless_it_is_padded(name: str) -> None:
    torch.manual_seed(0)
    layer, folds = AFTER[name]
    graph = prepared(lambda m, x: m.layer(m.norm(x)), {"layer": layer, "norm": norm2d(4)}, (2, 4, 6, 5))
    assert ("batch_norm" not in operator_names(graph)) == folds


def test_a_batch_norm_behind_which_zeros_are_padded_stays() -> None:
    members = {"norm": norm2d(4), "conv": nn.Conv2d(4, 6, 3)}
    graph = prepared(lambda m, x: m.conv(nn.functional.pad(m.norm(x), (0, 1, 1, 0))), members, (2, 4, 6, 5))
    assert operator_names(graph) == ["batch_norm", "conv"]


def test_a_batch_norm_with_a_padded_reader_stays_for_all() -> None:
    members = {"norm": norm2d(4), "one": nn.Conv2d(4, 2, 3, padding=1), "two": nn.Conv2d(4, 2, 1)}
    graph = prepared(lambda m, x: m.one(h := m.norm(x)) + m.two(h), members, (2, 4, 6, 5))
    assert operator_names(graph) == ["batch_norm", "conv", "conv", "add"]


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
