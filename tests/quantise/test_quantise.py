"""Which operand gets which cast: roles, precedence, ports, functions, literals, and models with own casts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import gatewright as gw
from gatewright.diagnostics import GatewrightError
from gatewright.frontend.constants import lossless_cast
from gatewright.frontend.importer import import_model
from gatewright.frontend.quantise import quantise
from gatewright.ir.graph import Graph
from gatewright.ir.ops.cast import Cast
from gatewright.ir.transforms.legalise import legalise
from tests.torch_backend.models import Tiny


def casts(graph: Graph) -> dict[str, str]:
    """The format of every cast operand, by the cast's name, ``=`` and the format."""
    return {node.output.name: str(node.op.spec.format) for node in graph.nodes if isinstance(node.op, Cast)}


def layers() -> nn.Module:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))
    for parameter in model.parameters():
        parameter.data.clamp_(-0.5, 0.5)
    return model.eval()


def imported(model: nn.Module, size: int = 4) -> Graph:
    return import_model(model, (torch.randn(3, size),))


def test_one_cast_for_everything() -> None:
    graph = quantise(imported(layers()), "fixed<8,5>")
    found = casts(graph)
    assert set(found.values()) == {"fixed<8,5>"}
    assert len(found) == 1 + 2 + 3 * 2
    legalise(graph)


def test_precedence_is_name_then_regex_then_type_then_default() -> None:
    graph = quantise(
        imported(layers()),
        {
            "default": {"input": "fixed<8,4>", "weight": "fixed<8,6>", "bias": "fixed<8,5>"},
            "type": {"linear": {"weight": "fixed<7,6>", "bias": "fixed<7,5>"}},
            "regex": {r"[24]": {"weight": "fixed<6,5>", "output": "fixed<16,7>"}},
            "name": {"4*": {"weight": "fixed<5,4>"}},
        },
    )
    found = casts(graph)
    assert found["0.weight_cast"] == "fixed<7,6>"
    assert found["2.weight_cast"] == "fixed<6,5>"
    assert found["4.weight_cast"] == "fixed<5,4>"
    assert {found[f"{layer}.bias_cast"] for layer in (0, 2, 4)} == {"fixed<7,5>"}
    assert str(legalise(graph).graph.outputs[0].format) == "fixed<16,7>"


def test_toml_file_equals_the_dictionary(tmp_path: Path) -> None:
    file = tmp_path / "formats.toml"
    file.write_text(
        """
        [default]
        input = "fixed<8,4>"
        weight = "fixed<8,6> half_up"
        bias = "fixed<16,8>"
        [type.linear]
        weight = "fixed<6,5>"
        [name."4*"]
        output = "fixed<16,8>"
        [regex.'[02]']
        input = "fixed<9,4>"
        """
    )
    graph = imported(layers())
    dictionary = {
        "default": {"input": "fixed<8,4>", "weight": "fixed<8,6> half_up", "bias": "fixed<16,8>"},
        "type": {"linear": {"weight": "fixed<6,5>"}},
        "name": {"4*": {"output": "fixed<16,8>"}},
        "regex": {"[02]": {"input": "fixed<9,4>"}},
    }
    assert quantise(graph, file) == quantise(graph, str(file)) == quantise(graph, dictionary)


def test_port_takes_its_own_rule_then_its_readers_then_the_default() -> None:
    graph = imported(layers())
    assert casts(quantise(graph, "fixed<8,5>"))["input_cast"] == "fixed<8,5>"
    rules = {"default": {"input": "fixed<8,4>", "weight": "fixed<8,6>", "bias": "fixed<8,6>"}}
    rules["name"] = {"input": {"input": "ufixed<8,8>"}}
    found = quantise(graph, rules)
    assert casts(found)["input_cast"] == "ufixed<8,8>"
    assert str(legalise(found).graph.inputs[0].format) == "ufixed<8,8>"
    (first,) = [node for node in found.nodes if node.output.name == "0"]
    assert first.inputs[0].name == "input_cast"
    rules["name"]["0"] = {"input": "fixed<7,3>"}
    assert "fixed<7,3>" in casts(quantise(graph, rules)).values()


class Shared(nn.Module):
    """An input that two layers read."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(4, 4)
        self.right = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.left(x) + self.right(x)


def test_readers_that_disagree_need_a_default() -> None:
    graph = imported(Shared().eval())
    rules = {
        "type": {"linear": {"weight": "fixed<8,6>", "bias": "fixed<8,6>"}, "add": {"input": "fixed<12,6>"}},
        "name": {"left": {"input": "fixed<8,4>"}, "right": {"input": "fixed<8,5>"}},
    }
    with pytest.raises(GatewrightError, match="GW0232"):
        quantise(graph, rules)
    found = quantise(graph, {**rules, "default": {"input": "fixed<10,5>"}})
    assert casts(found)["x_cast"] == "fixed<10,5>"
    assert {"fixed<8,4>", "fixed<8,5>", "fixed<10,5>"} <= set(casts(found).values())
    legalise(found)


def test_functions_round_their_own_result() -> None:
    graph = imported(Tiny().eval(), 8)
    rules = {"default": {"input": "fixed<8,4>", "weight": "fixed<8,6>", "bias": "fixed<8,6>"}}
    (gelu,) = [node for node in quantise(graph, rules).nodes if node.op.name == "gelu"]
    assert str(gelu.op.result) == "fixed<8,4> half_even saturate"  # type: ignore[attr-defined]
    rules["type"] = {"gelu": {"output": "fixed<8,5> half_up"}}
    (gelu,) = [node for node in quantise(graph, rules).nodes if node.op.name == "gelu"]
    assert str(gelu.op.result) == "fixed<8,5> half_up saturate"  # type: ignore[attr-defined]


def test_short_literals_keep_their_value() -> None:
    graph = quantise(imported(Tiny().eval(), 8), "fixed<8,4>")
    assert "ufixed<1,1>" in casts(graph).values()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.5], "ufixed<1,1>"), ([-0.5], "fixed<1,1>"), ([0.0], "ufixed<1,0>"), ([1.0, -2.0], "fixed<2,0>"),
        ([12.0], "ufixed<2,-2>"), ([3.25, -1.0], "fixed<5,2>"), ([0.1], None), ([2.0**30, 1.0], None),
        ([float("inf")], None),
    ],
)  # fmt: skip
def test_lossless_format(values: list[float], expected: str | None) -> None:
    import numpy as np

    array = np.asarray(values)
    found = lossless_cast(array)
    assert (None if found is None else str(found.format)) == expected
    if found is not None:
        format = found.format
        np.testing.assert_array_equal(format.decode(format.encode(array)), array)  # type: ignore[attr-defined]


class Carries(nn.Module):
    """A model that says its formats itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = gw.cast(x, "fixed<8,4>")
        weight = gw.cast(self.layer.weight, "fixed<6,5>")
        x = torch.nn.functional.linear(x, weight, gw.cast(self.layer.bias, "fixed<8,6>"))
        x = gw.cast(x, "fixed<10,6> half_up")
        return gw.cast(torch.sigmoid(x), "ufixed<8,8>")


def test_a_model_keeps_its_own_casts() -> None:
    graph = imported(Carries().eval())
    for formats in (None, "fixed<12,8>"):
        found = quantise(graph, formats)
        assert sorted(casts(found).values()) == ["fixed<10,6>", "fixed<6,5>", "fixed<8,4>", "fixed<8,6>"]
        (sigmoid,) = [node for node in found.nodes if node.op.name == "sigmoid"]
        assert str(sigmoid.op.result.format) == "ufixed<8,8>"  # type: ignore[attr-defined]
        legalise(found)


def test_software_only_roles_are_left_uncast() -> None:
    graph = quantise(imported(layers()), {"default": {"input": "fixed<8,4>", "weight": "float32", "bias": "real"}})
    assert set(casts(graph).values()) == {"fixed<8,4>"}
    assert not any(name.startswith("0.weight") for name in casts(graph))
