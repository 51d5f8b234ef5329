"""Models that cannot be imported, one for every error of the frontend. Line numbers are in the snapshots."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x
        return -x


class Selection(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[x > 0]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(2, 4)
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(torch.erfinv(self.norm(x)))


class Unsupported(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return torch.sort(x, dim=1).values


class BatchMean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(dim=0)


class BatchTranspose(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.t() @ x + x.sum()


class Position(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.max(x, dim=1)[1]


class Counter(nn.Module):
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return x * self.count


class ConstantOutput(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"scores": x * 2, "limits": torch.ones(4)}


class Truncation(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.div(x, 2, rounding_mode="floor") + F.elu(x, alpha=0.5) + x.int()


class TrainedBatchNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


class Noise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand(4)


def broken_weights() -> nn.Module:
    """Two layers with NaN and infinite parameters."""
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        model.get_parameter("0.weight")[1, 2] = float("nan")
        model.get_parameter("2.bias")[1] = float("inf")
    return model


@dataclass(frozen=True)
class Case:
    """A model, its example inputs, and the codes that its error must have."""

    model: Callable[[], Any]
    inputs: Callable[[], Any]
    codes: tuple[str, ...]


def features(batch: int = 2) -> tuple[Tensor, ...]:
    """Example inputs of four features."""
    return (torch.zeros(batch, 4),)


class Recurrent(nn.Module):
    """In evaluation it draws nothing, whatever dropout it trains with."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(4, 4, num_layers=2, dropout=0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.unsqueeze(1))[0]


CASES = {
    "data_dependent_branch": Case(Branch, features, ("GW0102",)),
    "dynamic_shape": Case(Selection, features, ("GW0108",)),
    "unsupported_operators": Case(Unsupported, features, ("GW0105", "GW0105", "GW0105")),
    "batch_mean": Case(BatchMean, features, ("GW0104",)),
    "batch_transpose": Case(BatchTranspose, features, ("GW0104", "GW0104")),
    "position_of_maximum": Case(Position, features, ("GW0107",)),
    "state": Case(Counter, features, ("GW0109",)),
    "constant_output": Case(ConstantOutput, features, ("GW0110",)),
    "truncation": Case(Truncation, features, ("GW0107", "GW0107", "GW0107")),
    "batch_statistics": Case(TrainedBatchNorm, features, ("GW0107",)),
    "noise": Case(Noise, features, ("GW0105",)),
    "recurrent_layer": Case(lambda: Recurrent().eval(), features, ("GW0105",)),
    "broken_weights": Case(broken_weights, features, ("GW0106", "GW0106")),
    "wrong_features": Case(lambda: nn.Sequential(nn.Linear(5, 2)), features, ("GW0101",)),
    "no_tensor": Case(lambda: nn.Linear(4, 2), lambda: ([1.0, 2.0],), ("GW0103",)),
    "two_batches": Case(Branch, lambda: (torch.zeros(2, 4), torch.zeros(3, 4)), ("GW0103",)),
    "no_module": Case(lambda: abs, features, ("GW0103",)),
    "other_program": Case(
        lambda: torch.export.export(nn.Linear(4, 2), features()), lambda: (torch.zeros(2, 5),), ("GW0103",)
    ),
}
