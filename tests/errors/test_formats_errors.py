"""What a user reads when ``formats`` or ``calibration`` is wrong: whole messages, word for word."""

from __future__ import annotations

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


def test_everything_wrong_in_the_sections_is_listed_together() -> None:
    formats = {
        "defaults": {"input": "fixed<8,4>"},
        "input": "fixed<8,4>",
        "name": {"body": {"weights": "fixed<8,4>", "bias": 8}},
        "regex": {"(": {"input": "fixed<8,4>"}},
        "type": {"linear": {"input": "fixd<8,4>", "weight": "fixed<8,4> half_evn"}},
        "default": 3,
    }
    assert message(formats) == """\
error[GW0224]: formats has no section [defaults]
  = note: sections: default, name, regex, type
  = help: did you mean [default]?

error[GW0224]: formats entry "input" stands outside a section
  = help: put it under "default": {"default": {"input": ...}}

error[GW0226]: formats [name.body] has no role "weights"
  = note: roles: input, weight, bias, output
  = help: did you mean "weight"?

error[GW0226]: formats [name.body] bias is 8
  = help: give a cast such as "fixed<8,4>"

error[GW0225]: [regex.(] is not a regular expression
  = note: missing ), unterminated subpattern at position 0

error[GW0202]: formats [type.linear] input: there is no number format "fixd<8,4>"
  = help: did you mean "fixed<8,4>"?

error[GW0207]: formats [type.linear] weight: "half_evn" in "fixed<8,4> half_evn" is neither a rounding nor an overflow
  = note: roundings: floor, half_up, half_even, toward_zero, half_zero, half_down, half_away, stochastic; overflows: saturate, saturate_symmetric, saturate_zero, wrap, infinite
  = help: did you mean "half_even"?

error[GW0224]: formats [default] must be a table of roles
  = note: roles: input, weight, bias, output"""


def test_patterns_that_match_nothing() -> None:
    formats = {
        "default": {"input": "fixed<8,4>", "weight": "fixed<8,4>", "bias": "fixed<8,4>"},
        "name": {"clasifier": {"weight": "fixed<4,2>"}, "body.*": {"weight": "fixed<4,2>"}},
        "regex": {r"layer\\.\\d+": {"weight": "fixed<4,2>"}},
        "type": {"linaer": {"weight": "fixed<4,2>"}, "conv2d": {"weight": "fixed<4,2>"}},
    }
    assert message(formats) == """\
error[GW0227]: formats [name."clasifier"] matches nothing in this model
  = note: names in this model: body, classifier, features, relu
  = help: did you mean "classifier"?

error[GW0227]: formats [name."body.*"] matches nothing in this model
  = note: names in this model: body, classifier, features, relu
  = help: did you mean "body"?

error[GW0227]: formats [regex.'layer\\\\.\\\\d+'] matches nothing in this model
  = note: names in this model: body, classifier, features, relu
  = help: remove the entry, or correct its pattern

error[GW0227]: formats [type.linaer] matches nothing in this model
  = note: operators in this model: linear, relu
  = help: did you mean "linear"?

error[GW0227]: formats [type.conv2d] matches nothing in this model
  = note: operators in this model: linear, relu
  = help: remove the entry, or correct its pattern"""


def test_a_constant_that_does_not_fit() -> None:
    formats = {"default": {"input": "fixed<8,4>", "weight": "fixed<4,3>", "bias": "fixed<8,4>"}}
    assert message(formats) == """\
error[GW0229]: fixed<4,3> cannot hold classifier.weight
  = note: the values run from 0.25 to 7.3
  = note: fixed<4,3>: -8 x 2^-3 = -1 to 7 x 2^-3 = 0.875
  = help: write weight = "fixed<7,3>" to keep the step, "fixed<4,0>" to keep the width, or "fixed<4,auto>" to let the constant decide"""


def test_a_negative_constant_in_an_unsigned_format() -> None:
    model = Classifier()
    with torch.no_grad():
        model.classifier.weight[0, 0] = -1.0
    formats = {"default": {"input": "fixed<8,4>", "weight": "ufixed<4,3>", "bias": "fixed<8,4>"}}
    with pytest.raises(GatewrightError) as caught:
        quantise(import_model(model.eval(), (torch.randn(3, 4),)), formats)
    assert shown(caught.value) == """\
error[GW0229]: ufixed<4,3> cannot hold classifier.weight
  = note: the values run from -1 to 0.25
  = note: ufixed<4,3>: 0 x 2^-3 = 0 to 15 x 2^-3 = 1.875
  = help: write weight = "fixed<4,3>", or "fixed<4,auto>" to let the constant decide"""


def test_operands_without_a_cast() -> None:
    assert message({"default": {"input": "fixed<8,4>"}}) == """\
error[GW0228]: 4 operands have no cast
  = note: body (linear): operand body.weight needs role weight
  = note: body (linear): operand body.bias needs role bias
  = note: classifier (linear): operand classifier.weight needs role weight
  = note: classifier (linear): operand classifier.bias needs role bias
  = help: add the role, for example [default] weight = "fixed<8,auto>""""
    assert message(None) == """\
error[GW0228]: 6 operands have no cast
  = note: body (linear): operand features needs role input
  = note: body (linear): operand body.weight needs role weight
  = note: body (linear): operand body.bias needs role bias
  = note: classifier (linear): operand relu needs role input
  = note: classifier (linear): operand classifier.weight needs role weight
  = note: classifier (linear): operand classifier.bias needs role bias
  = help: put gw.cast(...) on them in the model, or pass formats"""


def test_auto_needs_data() -> None:
    assert message("fixed<8,auto>") == """\
error[GW0231]: auto fraction bits of activations need calibration data
  = note: 2 casts are open: features, relu
  = help: pass calibration=[batch, ...] of typical inputs, or write the bits, as in fixed<8,4>"""


def test_data_that_does_not_fit() -> None:
    assert message("fixed<8,auto>", [torch.zeros(2, 4), torch.zeros(2, 5)]) == """\
error[GW0230]: calibration batch 1 does not fit the model
  = note: features is [2, 5]; the model takes [batch, 4]
  = help: give batches like the example inputs: a tensor, or a tuple or dictionary of tensors"""
    assert message("fixed<8,auto>", []) == """\
error[GW0230]: the calibration data is empty
  = note: an iterator that was read before has nothing left
  = help: pass a list of input batches, for example calibration=[x for x, _ in loader]"""


def test_an_input_in_two_formats() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return self.left(features) + self.right(features)

    formats = {
        "type": {"linear": {"weight": "fixed<8,6>", "bias": "fixed<8,6>"}, "add": {"input": "fixed<12,6>"}},
        "name": {"left": {"input": "fixed<8,4>"}, "right": {"input": "fixed<8,5>"}},
    }
    with pytest.raises(GatewrightError) as caught:
        quantise(import_model(Two().eval(), (torch.randn(3, 4),)), formats)
    assert shown(caught.value) == """\
error[GW0232]: input features is read in 2 formats: fixed<8,4> half_even saturate, fixed<8,5> half_even saturate
  = note: one port carries one format
  = help: choose it with [name."features"] input = "...", or with [default] input"""


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    assert message(missing).replace(str(tmp_path), "") == """\
error[GW0222]: the formats file /missing.toml cannot be read: No such file or directory
  = help: pass the path of an existing TOML file"""
    broken = tmp_path / "broken.toml"
    broken.write_text("[name.classifier.*]\nweight = 'fixed<4,2>'\n")
    assert message(broken).replace(str(tmp_path), "") == """\
error[GW0223]: the formats file /broken.toml is not valid TOML
  = note: Invalid initial character for a key part (at line 1, column 18)
  = help: patterns with dots or brackets need quotes, as in [name."classifier.*"]"""
