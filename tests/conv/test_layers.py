"""Every layer in every form: kernels of 1, 2, 3, 5 and 7, all paddings and strides, non-square everything."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.conv.checks import check, compiled


class Wrapped(nn.Module):
    """A function of the input and of layers."""

    def __init__(self, function: Callable[..., Tensor | tuple[Tensor, ...]], *layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The function's value."""
        return self.function(x, *self.layers)


def _layers(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers)


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "kernel 1": (lambda: nn.Conv2d(3, 5, 1), (3, 4, 6)),
    "kernel 1 strided": (lambda: nn.Conv2d(4, 3, 1, (2, 3)), (4, 5, 7)),
    "kernel 2 even": (lambda: nn.Conv2d(2, 3, 2), (2, 5, 4)),
    "kernel 2 same": (lambda: nn.Conv2d(2, 3, 2, padding="same"), (2, 5, 4)),
    "kernel 3 same": (lambda: nn.Conv2d(3, 4, 3, padding="same"), (3, 6, 5)),
    "kernel 5 valid": (lambda: nn.Conv2d(1, 4, 5, padding="valid"), (1, 7, 9)),
    "kernel 7 strided": (lambda: nn.Conv2d(1, 2, 7, 2, 3), (1, 11, 14)),
    "non-square": (lambda: nn.Conv2d(2, 3, (1, 5), (1, 2), (0, 2)), (2, 4, 9)),
    "non-square tall": (lambda: nn.Conv2d(2, 3, (5, 1), (2, 1), (1, 0)), (2, 9, 3)),
    "asymmetric": (lambda: _layers(nn.ZeroPad2d((0, 2, 1, 0)), nn.Conv2d(2, 3, 3, 2)), (2, 6, 5)),
    "dilated": (lambda: nn.Conv2d(2, 3, 3, 1, 2, (2, 1)), (2, 7, 6)),
    "dilated strided": (lambda: nn.Conv2d(2, 3, 3, 2, 1, 2), (2, 9, 8)),
    "padding beyond the kernel": (lambda: nn.Conv2d(2, 3, 3, 1, 3), (2, 4, 3)),
    "an image of one position": (lambda: nn.Conv2d(3, 2, 3, padding=1), (3, 1, 1)),
    "an image lower than its padding": (lambda: nn.Conv2d(2, 3, (5, 3), padding=(2, 1)), (2, 2, 3)),
    "an image narrower than its padding": (lambda: nn.Conv2d(2, 2, (3, 7), padding=(1, 3)), (2, 4, 1)),
    "rows that nothing reads": (lambda: nn.Conv2d(2, 3, 2, 3), (2, 7, 7)),
    "no bias": (lambda: nn.Conv2d(3, 4, 3, bias=False), (3, 5, 5)),
    "groups": (lambda: nn.Conv2d(6, 4, 3, padding=1, groups=2), (6, 5, 4)),
    "depthwise": (lambda: nn.Conv2d(5, 5, 3, padding=1, groups=5), (5, 6, 5)),
    "depthwise strided": (lambda: nn.Conv2d(4, 4, (3, 5), 2, (1, 2), groups=4), (4, 8, 7)),
    "depthwise multiplied": (lambda: nn.Conv2d(3, 6, 3, groups=3), (3, 5, 6)),
    "one dimension": (lambda: _layers(nn.Conv1d(3, 5, 5, padding="same"), nn.Conv1d(5, 4, 3, 2)), (3, 15)),
    "one dimension pooled": (lambda: _layers(nn.Conv1d(2, 4, 3, 1, 1, groups=2), nn.MaxPool1d(3, 2, 1)), (2, 12)),
    "transposed": (lambda: nn.ConvTranspose2d(3, 4, 3, 2, 1, 1), (3, 5, 4)),
    "transposed groups": (lambda: _layers(nn.ConvTranspose2d(4, 4, 2, 2, groups=2), nn.Conv2d(4, 3, 3)), (4, 4, 3)),
    "transposed one dimension": (lambda: nn.ConvTranspose1d(3, 2, 4, 2, 1), (3, 7)),
    "max pool": (lambda: _layers(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(2)), (2, 9, 8)),
    "max pool overlapping": (lambda: nn.MaxPool2d(3, 2, 1), (3, 7, 8)),
    "max pool ceil": (lambda: nn.MaxPool2d(2, ceil_mode=True), (3, 5, 7)),
    "max pool dilated": (lambda: nn.MaxPool2d(2, 1, 0, 2), (2, 6, 5)),
    "average pool": (lambda: nn.AvgPool2d(2), (3, 6, 4)),
    "average pool counting padding": (lambda: nn.AvgPool2d(3, 2, 1), (2, 7, 6)),
    "average pool without padding": (lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), (2, 7, 6)),
    "average pool ceil": (lambda: nn.AvgPool2d((2, 3), ceil_mode=True), (2, 5, 7)),
    "adaptive average": (lambda: _layers(nn.Conv2d(2, 3, 3), nn.AdaptiveAvgPool2d((2, 1))), (2, 8, 6)),
    "adaptive maximum": (lambda: nn.AdaptiveMaxPool2d((3, 2)), (3, 9, 6)),
    "adaptive average, uneven": (lambda: _layers(nn.Conv2d(2, 3, 2), nn.AdaptiveAvgPool2d((3, 2))), (2, 6, 6)),
    "adaptive average, one uneven axis": (lambda: nn.AdaptiveAvgPool2d((2, 3)), (2, 6, 5)),
    "adaptive maximum, uneven": (lambda: _layers(nn.AdaptiveMaxPool2d((4, 3)), nn.Conv2d(3, 2, 2)), (3, 6, 7)),
    "adaptive, more outputs than inputs": (lambda: nn.AdaptiveMaxPool2d((3, 4)), (2, 2, 6)),
    "adaptive one dimension, uneven": (lambda: nn.AdaptiveAvgPool1d(3), (2, 8)),
    "global average": (lambda: _layers(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4)), (3, 4, 5)),
    "flatten": (lambda: _layers(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 5)), (2, 6, 4)),
    "upsampling": (
        lambda: _layers(nn.Conv2d(2, 3, 3), nn.Upsample(scale_factor=2), nn.Conv2d(3, 2, 3, padding=1)),
        (2, 6, 5),
    ),
    "channel shuffle": (
        lambda: _layers(nn.Conv2d(6, 6, 1, groups=3), nn.ChannelShuffle(3), nn.Conv2d(6, 4, 3, groups=2)),
        (6, 5, 4),
    ),
    "activations": (
        lambda: _layers(nn.Conv2d(2, 4, 3), nn.ReLU6(), nn.Conv2d(4, 4, 1), nn.Hardswish(), nn.Conv2d(4, 2, 2)),
        (2, 6, 5),
    ),
    "pool of the input and convolution": (
        lambda: Wrapped(lambda x, conv: (conv(x), x.mean((2, 3))), nn.Conv2d(2, 3, 3)),
        (2, 5, 4),
    ),
    "one window, two readers": (
        lambda: Wrapped(lambda x, one, two: one(x) + two(x), nn.Conv2d(2, 3, 3), nn.Conv2d(2, 3, 3)),
        (2, 5, 6),
    ),
    "squeeze and excitation": (
        lambda: Wrapped(
            lambda x, conv, first, second: (
                (y := F.relu(conv(x))) * F.hardsigmoid(second(F.relu(first(F.adaptive_avg_pool2d(y, 1)))))
            ),
            nn.Conv2d(2, 4, 3, padding=1),
            nn.Conv2d(4, 2, 1),
            nn.Conv2d(2, 4, 1),
        ),
        (2, 5, 6),
    ),
    "channels last outside": (
        lambda: Wrapped(lambda x, conv: conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1), nn.Conv2d(3, 4, 3)),
        (6, 5, 3),
    ),
}


@pytest.mark.parametrize("factor", [1, 6, 1000], ids=["serial", "folded", "fastest"])
@pytest.mark.parametrize("name", CASES)
def test_a_layer_equals_its_hardware(name: str, factor: int) -> None:
    make, shape = CASES[name]
    torch.manual_seed(1)
    model = make().eval()
    x = torch.randn(3, *shape) * 2
    design = compiled(model, x)
    if factor > 1:
        design = compiled(model, x, max(design.interval // factor, 1))
    check(design, x)


# More of the same, folded alone.
MORE: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "same, dilated, even": (lambda: nn.Conv2d(2, 3, (2, 4), padding="same", dilation=(3, 1)), (2, 6, 7)),
    "dilated groups": (lambda: nn.Conv2d(4, 6, 3, 1, (2, 1), (2, 1), groups=2), (4, 6, 7)),
    "depthwise multiplied, dilated, strided": (lambda: nn.Conv2d(3, 9, 3, (2, 1), 2, 2, groups=3), (3, 8, 7)),
    "kernel as large as its padded input": (lambda: nn.Conv2d(2, 3, (7, 5), padding=(1, 0)), (2, 5, 5)),
    "stride larger than the kernel": (lambda: nn.Conv2d(2, 3, (1, 2), (3, 4)), (2, 8, 11)),
    "cropped and padded": (lambda: _layers(nn.ZeroPad2d((-1, 2, 1, -2)), nn.Conv2d(2, 3, 3)), (2, 7, 6)),
    "one dimension, same, even": (lambda: nn.Conv1d(3, 4, 4, padding="same", dilation=3), (3, 14)),
    "one dimension, groups": (lambda: nn.Conv1d(6, 4, 7, 3, 3, groups=2, bias=False), (6, 17)),
    "one dimension, depthwise": (lambda: nn.Conv1d(4, 8, 5, 1, 2, groups=4), (4, 9)),
    "one dimension, ceil": (
        lambda: _layers(nn.AvgPool1d(3, 2, 1, True, False), nn.MaxPool1d(2, 2, 0, 1, False, True)),
        (2, 12),
    ),
    "average, ceil, counting padding": (lambda: nn.AvgPool2d((3, 2), 2, (1, 0), True, True), (2, 6, 7)),
    "average, ceil, without padding": (lambda: nn.AvgPool2d(3, (2, 3), 1, True, False), (2, 6, 7)),
    "average divided by another number": (lambda: nn.AvgPool2d(2, 1, divisor_override=3), (2, 4, 5)),
    "max pool, ceil, padded, non-square": (lambda: nn.MaxPool2d((3, 2), (3, 1), (1, 1), 1, False, True), (2, 6, 5)),
    "max pool, dilated, strided, padded": (lambda: nn.MaxPool2d((2, 3), 2, 1, (3, 1)), (2, 8, 7)),
    "transposed, kernel smaller than the stride": (lambda: nn.ConvTranspose2d(2, 3, (1, 2), (2, 3)), (2, 4, 3)),
    "transposed, dilated": (lambda: nn.ConvTranspose2d(2, 2, 3, 2, 2, 1, dilation=(2, 1)), (2, 4, 5)),
    "transposed, depthwise": (lambda: nn.ConvTranspose2d(3, 6, (3, 2), (1, 2), (1, 0), groups=3), (3, 4, 5)),
    "upsampling along one axis": (lambda: nn.Upsample(scale_factor=(1, 3)), (2, 3, 4)),
}


@pytest.mark.parametrize("name", MORE)
def test_another_layer_equals_its_hardware(name: str) -> None:
    make, shape = MORE[name]
    torch.manual_seed(2)
    model = make().eval()
    x = torch.randn(3, *shape) * 2
    serial = compiled(model, x)
    check(compiled(model, x, max(serial.interval // 6, 1)), x)


NORMS: dict[str, tuple[Callable[[], nn.Module], bool]] = {
    "after convolutions": (
        lambda: _layers(
            nn.Conv2d(2, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3, groups=4),
            nn.BatchNorm2d(4),
        ),
        True,
    ),
    "after a transposed convolution": (
        lambda: _layers(nn.ConvTranspose2d(2, 4, 3, 2, 1, groups=2), nn.BatchNorm2d(4)),
        True,
    ),
    "before a convolution": (lambda: _layers(nn.BatchNorm2d(2), nn.Conv2d(2, 3, (3, 2), groups=1)), True),
    "before a padded convolution": (lambda: _layers(nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3, padding=1)), False),
}


@pytest.mark.parametrize("name", NORMS)
def test_batch_norms_fold_into_convolutions(name: str) -> None:
    torch.manual_seed(0)
    make, folds = NORMS[name]
    model = make().train()
    x = torch.randn(8, 2, 7, 6) + 0.5
    with torch.no_grad():
        model(x)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.constant_(norm.weight, 0.6)
    design = compiled(model.eval(), x)
    assert ("batch_norm" not in {node.op.name for node in design.graph.nodes}) == folds
    check(design, x[:3])


def test_a_transposed_convolution_multiplies_no_inserted_zeros() -> None:
    torch.manual_seed(0)
    model, x = nn.ConvTranspose2d(2, 3, 4, 2).eval(), torch.randn(1, 2, 5, 6)
    (form,) = compiled(model, x).schedule.folding.forms.values()
    # 6 x 7 turns of 2 x 2 phases, 3 outputs, 2 inputs, 2 x 2 taps; spread out it would be 12 x 14 x 3 x 2 x 4 x 4.
    assert form.operations == 6 * 7 * 4 * 3 * 2 * 2 * 2


@pytest.mark.parametrize("seed", range(30))
def test_a_transposed_convolution_equals_pytorch(seed: int) -> None:
    choose = random.Random(seed)
    torch.manual_seed(seed)
    groups = choose.choice((1, 2))
    kernel, stride = ([choose.randint(1, most) for _ in range(2)] for most in (5, 3))
    dilation = [choose.choice((1, 1, 2)) for _ in range(2)]
    padding = [choose.randint(0, (size - 1) * step // 2) for size, step in zip(kernel, dilation, strict=True)]
    added = [choose.randint(0, max(pair) - 1) for pair in zip(stride, dilation, strict=True)]
    model = nn.ConvTranspose2d(2 * groups, 3 * groups, kernel, stride, padding, added, groups, dilation=dilation).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randint(-7, 8, parameter.shape) / 16)
    x = torch.randint(-31, 32, (2, 2 * groups, 4, 5)) / 8
    design = compiled(model, x)
    with torch.no_grad():
        assert torch.equal(design(x), model.double()(x.double()))
        assert torch.equal(design(x), design.module(x).double())
