"""Every supported call becomes the expected operators, which compute what the model computes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gatewright.backends.torch.evaluate import run_real
from gatewright.diagnostics import GatewrightError
from gatewright.frontend.importer import import_model
from gatewright.ir.graph import Graph
from gatewright.ir.ops.constant import Constant
from gatewright.ir.transforms.prepare import prepare
from tests.frontend.models import CASES, FUNCTIONS, Case


def operator_names(graph: Graph) -> str:
    """The names of the graph's operators in order, without constants."""
    return " ".join(node.op.name for node in graph.nodes if not isinstance(node.op, Constant))


def assert_computes(graph: Graph, model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """The graph equals the model in float64 on other inputs than the example."""
    torch.manual_seed(11)
    others = [torch.randn_like(each).double() for each in inputs]
    expected = model.eval().double()(*others)
    (found,) = run_real(graph, others)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_call(name: str) -> None:
    case = CASES[name]
    model = case.model()
    graph = import_model(model, case.inputs())
    assert operator_names(graph) == case.expected
    assert_computes(graph, model, case.inputs())
    assert_computes(prepare(graph), model, case.inputs())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function(name: str) -> None:
    case = Case(lambda m, x: FUNCTIONS[name](x), ((2, 6),), name)
    graph = import_model(case.model(), case.inputs())
    assert operator_names(graph).split()[-1] == name
    assert_computes(graph, case.model(), case.inputs())


class Network(nn.Module):
    """Two branches, a parameter used twice, and a buffer that is not saved."""

    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Dropout(0.1))
        self.head = nn.Linear(4, 4)
        self.head.weight = self.encoder[0].weight
        self.register_buffer("offset", torch.ones(4), persistent=False)

    def forward(self, x: Tensor, mask: Tensor) -> dict[str, object]:
        hidden = self.encoder(x)
        return {"scores": self.head(hidden) + self.offset, "rest": [hidden * mask, mask]}


def test_names_and_locations() -> None:
    model = Network()
    graph = import_model(model, {"mask": torch.ones(3, 4), "x": torch.zeros(3, 4)})
    assert graph.name == "Network"
    assert [value.name for value in graph.inputs] == ["x", "mask"]
    assert graph.output_names == ("scores", "rest_0", "rest_1")
    assert graph.outputs[2] == graph.inputs[1]
    named = {node.output.name: node for node in graph.nodes}
    assert {"encoder.0", "encoder.1", "encoder.2", "head", "encoder.0.bias", "head.bias"} <= set(named)
    location = named["head"].location
    assert location.module == "head"
    assert location.file.endswith("test_importer.py")
    assert location.text == 'return {"scores": self.head(hidden) + self.offset, "rest": [hidden * mask, mask]}'
    constants = {node.op.source: node.op for node in graph.nodes if isinstance(node.op, Constant)}
    # The two layers share one weight, under one of its names.
    assert set(constants) - {"encoder.0.weight", "head.weight"} == {"encoder.0.bias", "head.bias", ""}
    assert len(constants) == 4
    assert constants["head.bias"].trainable
    assert not constants[""].trainable  # a buffer that is not saved has no name in the state_dict


def test_training_flags_and_parameters_are_left_alone() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5), nn.BatchNorm1d(2)).train()
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    import_model(model, (torch.randn(4, 3),))
    assert (model.training, model[0].training, model[1].training, model[2].training) == (
        True,
        True,
        False,
        True,
    )
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_inputs_are_not_written() -> None:
    x = torch.full((2, 3), -1.0)
    import_model(nn.ReLU(inplace=True), (x,))
    assert torch.equal(x, torch.full((2, 3), -1.0))


def test_exported_programs_and_traced_modules() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    x = torch.randn(2, 3)
    texts = {
        operator_names(import_model(each, (x,)))
        for each in (model, torch.export.export(model, (x,)), torch.fx.symbolic_trace(model))
    }
    assert texts == {"linear relu"}


def test_batch_of_one_is_no_special_case() -> None:
    """With one sample an axis of extent 1 may be the batch or not: the batch is always axis 0."""
    graph = import_model(nn.Flatten(), (torch.randn(1, 1, 3),))
    assert graph.outputs[0].shape == (3,)
    with pytest.raises(GatewrightError) as caught:
        import_model(nn.Flatten(0), (torch.randn(1, 3),))
    assert caught.value.code == "GW0104"


def test_a_misread_call_is_an_internal_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from gatewright.ir.ops.relu import Relu

    monkeypatch.setattr(Relu, "torch", lambda self, *arguments: f"{arguments[0]} * 1.0000001")
    with pytest.raises(GatewrightError) as caught:
        import_model(nn.ReLU(), (torch.ones(2, 3),))
    assert caught.value.code == "GW0199"
