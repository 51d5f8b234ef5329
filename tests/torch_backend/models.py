"""Small models of the tests, imported and quantised."""

from __future__ import annotations

import torch
from torch import nn

from gatewright.frontend.importer import import_model
from gatewright.frontend.quantise import quantise
from gatewright.ir.graph import Graph


class Tiny(nn.Module):
    """Two layers, a residual sum, a function and a literal."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Linear(width, width)
        self.body = nn.Sequential(nn.Linear(width, width), nn.ReLU())
        self.head = nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = nn.functional.gelu(self.first(x))
        hidden = hidden + self.body(hidden) * 0.5
        return self.head(hidden)


FORMATS = {
    "default": {"input": "fixed<8,4>", "weight": "fixed<8,6>", "bias": "fixed<12,8>"},
    "type": {"gelu": {"output": "fixed<8,5> half_up"}},
}


def tiny(seed: int = 0) -> tuple[Tiny, Graph]:
    """The model with fixed weights, and its quantised graph."""
    torch.manual_seed(seed)
    model = Tiny().eval()
    return model, quantise(import_model(model, (torch.randn(4, 8),)), FORMATS)
