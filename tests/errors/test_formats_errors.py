"""What a user reads when ``formats`` or ``calibration`` is wrong: whole messages, word for word."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gatewright.diagnostics import GatewrightError
from gatewright.frontend.importer import import_model
from gatewright.frontend.quantise import quantise
from gatewright.ir.graph import Graph


class Classifier(nn.Module):
    """Two layers with a weight that stands out."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.classifier = nn.Linear(4, 2)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.fill_(0.25)
            self.classifier.weight[0, 0] = 7.3

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.relu(self.body(features)))


def graph() -> Graph:
    return import_model(Classifier().eval(), (torch.randn(3, 4),))


def message(formats: Any, calibration: Any = None) -> str:
    """What quantising the classifier says."""
    with pytest.raises(GatewrightError) as caught:
        quantise(graph(), formats, calibration)
    return shown(caught.value)


def shown(problem: GatewrightError) -> str:
    """The message without places, which move with this file, and the list of formats, which grows."""
    hidden = ("  --> ", "   | ", "  = note: known: ")
    return "\n".join(line for line in str(problem).splitlines() if not line.startswith(hidden))


def expect(name: str, text: str) -> None:
    """``text`` equals the snapshot ``formats/<name>.txt``; GATEWRIGHT_UPDATE_SNAPSHOTS=1 writes it instead."""
    file = Path(__file__).parent / "formats" / f"{name}.txt"
    if os.environ.get("GATEWRIGHT_UPDATE_SNAPSHOTS"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text + "\n", encoding="utf-8")
    assert text + "\n" == file.read_text(encoding="utf-8")


def test_everything_wrong_in_the_sections_is_listed_together() -> None:
    formats = {
        "defaults": {"input": "fixed<8,4>"},
        "input": "fixed<8,4>",
        "name": {"body": {"weights": "fixed<8,4>", "bias": 8}},
        "regex": {"(": {"input": "fixed<8,4>"}},
        "type": {"linear": {"input": "fixd<8,4>", "weight": "fixed<8,4> half_evn"}},
        "default": 3,
    }
    expect("sections", message(formats))


def test_patterns_that_match_nothing() -> None:
    formats = {
        "default": {"input": "fixed<8,4>", "weight": "fixed<8,4>", "bias": "fixed<8,4>"},
        "name": {"clasifier": {"weight": "fixed<4,2>"}, "body.*": {"weight": "fixed<4,2>"}},
        "regex": {r"layer\.\d+": {"weight": "fixed<4,2>"}},
        "type": {"linaer": {"weight": "fixed<4,2>"}, "conv2d": {"weight": "fixed<4,2>"}},
    }
    expect("patterns", message(formats))


def test_a_constant_that_does_not_fit() -> None:
    formats = {"default": {"input": "fixed<8,4>", "weight": "fixed<4,3>", "bias": "fixed<8,4>"}}
    expect("constant_range", message(formats))
    formats["default"]["weight"] = "fixed<4,auto>"
    quantise(graph(), formats)


def test_a_negative_constant_in_an_unsigned_format() -> None:
    model = Classifier()
    with torch.no_grad():
        model.classifier.weight[0, 0] = -1.0
    formats = {"default": {"input": "fixed<8,4>", "weight": "ufixed<4,3>", "bias": "fixed<8,4>"}}
    with pytest.raises(GatewrightError) as caught:
        quantise(import_model(model.eval(), (torch.randn(3, 4),)), formats)
    expect("constant_sign", shown(caught.value))


def test_operands_without_a_cast() -> None:
    expect("no_cast_in_formats", message({"default": {"input": "fixed<8,4>"}}))
    expect("no_cast_in_model", message(None))


def test_auto_needs_data() -> None:
    expect("auto_without_data", message("fixed<8,auto>"))


def test_data_that_does_not_fit() -> None:
    expect("data_shape", message("fixed<8,auto>", [torch.zeros(2, 4), torch.zeros(2, 5)]))
    expect("data_empty", message("fixed<8,auto>", []))


class Two(nn.Module):
    """One input, two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.left(features) + self.right(features)


def test_an_input_in_two_formats() -> None:
    formats = {
        "type": {"linear": {"weight": "fixed<8,6>", "bias": "fixed<8,6>"}, "add": {"input": "fixed<12,6>"}},
        "name": {"left": {"input": "fixed<8,4>"}, "right": {"input": "fixed<8,5>"}},
    }
    with pytest.raises(GatewrightError) as caught:
        quantise(import_model(Two().eval(), (torch.randn(3, 4),)), formats)
    expect("port_formats", shown(caught.value))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    expect("file_missing", message(missing).replace(f"{tmp_path}/", ""))
    broken = tmp_path / "broken.toml"
    broken.write_text("[name.classifier.*]\nweight = 'fixed<4,2>'\n")
    expect("file_broken", message(broken).replace(f"{tmp_path}/", ""))
