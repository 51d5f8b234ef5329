"""Small models, one for every imported call, with the shapes of their example inputs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Shapes = tuple[tuple[int, ...], ...]


class Calls(nn.Module):
    """A module whose forward is ``function(module, *inputs)``."""

    def __init__(self, function: Callable[..., Any], members: dict[str, Any]) -> None:
        super().__init__()
        self.function = function
        for name, value in members.items():
            setattr(self, name, nn.Parameter(value) if isinstance(value, Tensor) else value)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(self, *inputs)


@dataclass(frozen=True)
class Case:
    """A function of a module and its inputs, their shapes, the module's members, the expected operators."""

    function: Callable[..., Any]
    shapes: Shapes
    expected: str
    members: dict[str, Any] = field(default_factory=dict)

    def model(self) -> nn.Module:
        """The module, in which statistics and parameters are not trivial."""
        torch.manual_seed(3)
        model = Calls(self.function, copy.deepcopy(self.members))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
        return model

    def inputs(self) -> tuple[Tensor, ...]:
        """Random example inputs."""
        torch.manual_seed(4)
        return tuple(torch.randn(*shape) for shape in self.shapes)


def increments(m: nn.Module, x: Tensor) -> Tensor:
    h = x * 2
    h.add_(1)
    h.relu_()
    return h.clamp_(max=1.5) + x


def writes(m: nn.Module, x: Tensor) -> Tensor:
    h = x * 2
    h[:, :2].mul_(3)
    h[:, 3] = 0.5
    return h + 1


V, M, T = ((2, 6),), ((2, 3, 4),), ((2, 3, 4), (2, 3, 4))
PAIR = ((2, 6), (2, 6))

CASES = {
    "linear": Case(lambda m, x: m.fc(x), V, "linear", {"fc": nn.Linear(6, 3)}),
    "linear_rows": Case(lambda m, x: m.fc(x), M, "linear", {"fc": nn.Linear(4, 3, bias=False)}),
    "addmm": Case(
        lambda m, x: torch.addmm(m.b, x, m.w),
        V,
        "parameter_permute linear",
        {"w": torch.ones(6, 2), "b": torch.ones(2)},
    ),
    "matmul": Case(lambda m, x: x @ m.w, M, "parameter_permute linear", {"w": torch.randn(4, 2)}),
    "matmul_transposed": Case(lambda m, x: x @ m.w.t(), V, "linear", {"w": torch.randn(2, 6)}),
    "matmul_vector": Case(lambda m, x: x @ m.w, V, "parameter_reshape linear reshape", {"w": torch.ones(6)}),
    "matmul_left": Case(lambda m, x: m.w @ x, M, "matmul", {"w": torch.randn(5, 3)}),
    "matmul_heads": Case(
        lambda m, x: x.view(2, 2, 3, 2) @ m.w,
        ((2, 12),),
        "reshape parameter_reshape matmul",
        {"w": torch.randn(1, 2, 2, 3)},
    ),
    "matmul_streams": Case(lambda m, x, y: torch.bmm(x, y.transpose(1, 2)), T, "permute matmul"),
    "add": Case(lambda m, x, y: x + y, PAIR, "add"),
    "add_scalar": Case(lambda m, x: x + 1.5, V, "add"),
    "add_alpha": Case(lambda m, x, y: torch.add(x, y, alpha=2), PAIR, "mul add"),
    "add_batch_constant": Case(lambda m, x: x + torch.ones(2, 6), V, "add"),
    "add_leading_one": Case(lambda m, x: x + m.p, M, "parameter_reshape add", {"p": torch.ones(1, 3, 4)}),
    "sub": Case(lambda m, x: (1 - x) - torch.ones(1, 6), V, "sub sub"),
    "mul": Case(lambda m, x: x * torch.arange(6.0), V, "mul"),
    "mul_self": Case(lambda m, x: x * x, V, "square"),
    "power": Case(lambda m, x: x**2 + x**3, V, "square mul add"),
    "div": Case(lambda m, x: x / 3, V, "mul"),
    "div_stream": Case(lambda m, x, y: x / (y * y + 1), PAIR, "square add reciprocal mul"),
    "neg_abs": Case(lambda m, x: -x.abs(), V, "absolute neg"),
    "maximum": Case(lambda m, x, y: torch.maximum(x, torch.min(x, y)), PAIR, "minimum maximum"),
    "relu": Case(lambda m, x: F.relu(x), V, "relu"),
    "relu6": Case(lambda m, x: F.relu6(x), V, "clamp"),
    "hardtanh": Case(lambda m, x: F.hardtanh(x), V, "clamp"),
    "hardtanh_long": Case(lambda m, x: F.hardtanh(x, -0.3, 0.4), V, "maximum minimum"),
    "clamp": Case(lambda m, x: x.clamp(min=0.25).clamp_max(1), V, "clamp clamp"),
    "leaky_relu": Case(lambda m, x: F.leaky_relu(x, 0.1), V, "leaky_relu"),
    "prelu": Case(lambda m, x: m.p(x), M, "parameter_reshape leaky_relu", {"p": nn.PReLU(3)}),
    "sum": Case(lambda m, x: x.sum(1) + x.sum((1, 2), keepdim=True).squeeze(2), ((2, 4, 4),), "sum sum reshape add"),
    "mean": Case(lambda m, x: x.mean(-1), M, "mean"),
    "mean_pair": Case(lambda m, x: x.mean((1, 2), keepdim=True), M, "mean"),
    "extremes": Case(lambda m, x: x.amax(2) - x.min(dim=2).values, M, "extreme extreme sub"),
    "batch_norm": Case(
        lambda m, x: m.bn(x), V, "batch_norm_scale batch_norm_shift batch_norm", {"bn": nn.BatchNorm1d(6)}
    ),
    "batch_norm_rows": Case(
        lambda m, x: m.bn(x),
        M,
        "batch_norm_scale batch_norm_shift batch_norm",
        {"bn": nn.BatchNorm1d(3, affine=False)},
    ),
    "dropout": Case(lambda m, x: m.d(x), V, "dropout", {"d": nn.Dropout(0.3)}),
    "storage": Case(lambda m, x: x.contiguous().clone().detach().to(torch.float32).double() + 1, V, "add"),
    "shapes": Case(
        lambda m, x: x.view(x.shape[0], -1).unflatten(1, (2, 6)).unsqueeze(1).squeeze(1).flatten(1),
        M,
        "reshape reshape reshape reshape reshape",
    ),
    "permute": Case(lambda m, x: x.permute(0, 2, 1) + x.transpose(1, 2) + x.mT, M, "permute add add"),
    "cat": Case(lambda m, x, y: torch.cat([x, y, torch.zeros(2, 1)], 1), PAIR, "concat"),
    "stack": Case(lambda m, x, y: torch.stack([x, y], 1), PAIR, "reshape reshape concat"),
    "slice": Case(lambda m, x: x[:, 1:3] + x[:, -2:] + x[:, 0:6:3], V, "slice slice add slice add"),
    "select": Case(lambda m, x: x[:, 2], M, "slice reshape"),
    "split": Case(lambda m, x: sum(x.split(2, 1)), V, "slice slice slice add add add"),
    "chunk": Case(lambda m, x: x.chunk(4, -1)[2], V, "slice"),
    "unbind": Case(lambda m, x: x.unbind(1)[1], M, "slice reshape"),
    "pad": Case(lambda m, x: F.pad(x, (1, 2), value=0.5), V, "pad"),
    "crop": Case(lambda m, x: F.pad(x, (2, -1)), V, "slice pad"),
    "expand": Case(lambda m, x: x.unsqueeze(1).expand(-1, 3, -1) * torch.ones(3, 1), V, "reshape expand mul"),
    "where": Case(lambda m, x, y: torch.where(x > 0.5, y, -1.0), PAIR, "compare where"),
    "in_place": Case(increments, V, "mul add relu clamp add"),
    "written_slices": Case(writes, V, "mul slice mul slice concat slice slice concat add"),
    "filled": Case(lambda m, x: torch.cat([x, torch.zeros_like(x) + 1, x.new_ones(2, 1)], 1), V, "concat"),
    "constants": Case(lambda m, x: x * torch.arange(6).float().div(2).cumsum(0), V, "mul"),
    "parameter_slice": Case(
        lambda m, x: x + m.p[:, :3], M, "parameter_slice parameter_reshape add", {"p": torch.randn(1, 5, 4)}
    ),
}

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "mish": F.mish,
    "softplus": F.softplus,
    "elu": F.elu,
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "exponential": torch.exp,
    "square_root": lambda x: torch.sqrt(x.abs()),
    "reciprocal": torch.reciprocal,
    "reciprocal_square_root": lambda x: torch.rsqrt(x.abs()),
    "logarithm": lambda x: torch.log(x.abs()),
}
"""A call for every nonlinear function, by the operator's name."""
