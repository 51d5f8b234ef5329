"""Small models for the end-to-end tests, also loaded by name through the command line."""

from __future__ import annotations

import torch
from torch import nn


class Residual(nn.Module):
    """Two inputs, a residual branch, a concatenation, and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(12, 12)
        self.second = nn.Linear(12, 12)
        self.head = nn.Linear(18, 5)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = left + torch.relu(self.second(torch.relu(self.first(left))))
        return self.head(torch.cat([hidden, right], dim=1)), hidden.sum(dim=1, keepdim=True)


def make_mlp() -> tuple[nn.Module, tuple[torch.Tensor], list[tuple[torch.Tensor]]]:
    """A two-layer network with example input and calibration batches."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 5)).eval()
    inputs = torch.rand(20, 16) * 2 - 1
    return model, (inputs[:1],), [(inputs,)]


def make_residual() -> tuple[nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    """The residual network with example inputs."""
    torch.manual_seed(1)
    return Residual().eval(), (torch.rand(1, 12) * 2 - 1, torch.rand(1, 6) * 2 - 1)
