"""Fraction bits chosen from data: the best signal-to-noise ratio, found exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gatewright.diagnostics import GatewrightError
from gatewright.frontend.importer import import_model
from gatewright.frontend.quantise import quantise
from gatewright.frontend.report import quantisation_report
from gatewright.ir.formats import Fixed, parse_cast
from gatewright.ir.graph import Graph
from gatewright.ir.ops.cast import Cast
from gatewright.ir.transforms.legalise import legalise


def specs(graph: Graph) -> dict[str, Fixed]:
    return {node.output.name: node.op.spec.format for node in graph.nodes if isinstance(node.op, Cast)}  # type: ignore[misc]


def model() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 4)).eval()


def best_by_search(values: np.ndarray, text: str) -> float:
    """The least noise energy over all sensible fraction bits."""
    spec = parse_cast(text.replace("auto", "0"))
    energies = []
    for frac in range(-20, 30):
        format = Fixed(spec.format.width, frac, spec.format.signed)  # type: ignore[union-attr]
        rounded = format.decode(format.encode(values, spec.rounding, spec.overflow))
        energies.append(float(np.square(rounded - values).sum()))
    return min(energies)


@pytest.mark.parametrize("text", ["fixed<8,auto>", "fixed<4,auto> half_up", "fixed<3,auto> wrap", "fixed<2,auto>"])
def test_constants_get_the_best_fraction(text: str) -> None:
    graph = import_model(model(), (torch.randn(3, 6),))
    rules = {"default": {"input": "fixed<8,4>", "weight": text, "bias": text}}
    found = specs(quantise(graph, rules))
    for name, tensor in model().named_parameters():
        values = tensor.detach().double().numpy()
        spec = parse_cast(text.replace("auto", "0"))
        format = found[f"{name}_cast"]
        energy = float(np.square(format.decode(format.encode(values, spec.rounding, spec.overflow)) - values).sum())
        assert energy == pytest.approx(best_by_search(values, text), rel=1e-12)


def test_activations_follow_the_data_and_batches_may_have_any_shape_of_container() -> None:
    graph = import_model(model(), (torch.randn(3, 6),))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 6, generator=generator)
    small = quantise(graph, "fixed<8,auto>", calibration=[x])
    large = quantise(graph, "fixed<8,auto>", calibration=[(x * 64,)])
    assert specs(small)["input_cast"].fraction_bits - specs(large)["input_cast"].fraction_bits == 6
    assert quantise(graph, "fixed<8,auto>", calibration=iter([{"input": x[:32]}, {"input": x[32:]}])) == small
    assert quantise(graph, "fixed<8,auto>", calibration=x.numpy()) == small
    legalise(small)


def test_unsigned_formats_clip_what_is_negative() -> None:
    graph = import_model(model(), (torch.randn(3, 6),))
    rules = {
        "default": {"input": "fixed<8,auto>", "weight": "fixed<8,auto>", "bias": "fixed<8,auto>"},
        "name": {"input": {"input": "ufixed<8,auto>"}},
    }
    x = torch.rand(64, 6)
    assert specs(quantise(graph, rules, [x]))["input_cast"] == Fixed(8, 8, signed=False)


@pytest.mark.parametrize(
    "calibration",
    [[], [torch.zeros(3, 5)], [(torch.zeros(3, 6), torch.zeros(3, 6))], [{"y": torch.zeros(3, 6)}],
     [torch.full((3, 6), float("nan"))]],
)  # fmt: skip
def test_data_that_does_not_fit_is_refused(calibration: list) -> None:
    graph = import_model(model(), (torch.randn(3, 6),))
    with pytest.raises(GatewrightError) as caught:
        quantise(graph, "fixed<8,auto>", calibration)
    assert caught.value.code == "GW0230"


def test_report_shows_the_noise_of_every_layer() -> None:
    graph = import_model(model(), (torch.randn(3, 6),))
    x = torch.randn(256, 6)
    coarse = quantisation_report(graph, quantise(graph, "fixed<4,auto>", [x]), [x])
    fine = quantisation_report(graph, quantise(graph, "fixed<12,auto>", [x]), [x])
    assert [row.name for row in coarse] == [row.name for row in fine] == ["0", "1", "2"]
    for low, high in zip(coarse, fine, strict=True):
        assert 0 < low.sqnr < high.sqnr
        assert high.sqnr - low.sqnr > 30
    assert "fixed<12" in fine[1].format
    literal = quantisation_report(graph, graph, [x])
    assert all(row.sqnr == float("inf") and row.format == "real" for row in literal)
