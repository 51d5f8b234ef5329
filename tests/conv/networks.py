"""Random convolutional networks with branches, each from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Step = Callable[[Tensor], Tensor]


class RandomNetwork(nn.Module):
    """A chain of random blocks on [batch, channels, height, width], then perhaps a classifier."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = random.Random(seed)
        torch.manual_seed(seed)
        self.channels = self.random.randint(1, 5)
        self.size = (self.random.randint(5, 12), self.random.randint(5, 12))
        self.shape = (self.channels, *self.size)
        self.layers = nn.ModuleList()
        self.steps: list[Step] = []
        value = torch.randn(1, *self.shape)
        for _ in range(self.random.randint(2, 4)):
            value = self._append(value, self._block(value))
        if self.random.random() < 0.5:
            value = self._append(value, self._head(value))
        self.random = None

    def forward(self, x: Tensor) -> Tensor:
        """Every step in turn."""
        for step in self.steps:
            x = step(x)
        return x

    def _append(self, value: Tensor, step: Step) -> Tensor:
        self.steps.append(step)
        return step(value).detach()

    def _added(self, layer: nn.Module) -> nn.Module:
        self.layers.append(layer)
        return layer

    def _block(self, value: Tensor) -> Step:
        kinds = [self._conv, self._conv, self._depthwise, self._pool, self._residual, self._branches, self._squeeze]
        return self.random.choice(kinds)(value)

    def _kernel(self, value: Tensor, most: int = 5) -> tuple[int, int]:
        sizes = [size for size in (1, 2, 3, 5, 7) if size <= most]
        height, width = value.shape[2:]
        return (
            self.random.choice([size for size in sizes if size <= height]),
            self.random.choice([size for size in sizes if size <= width]),
        )

    def _conv(self, value: Tensor) -> Step:
        channels = value.shape[1]
        kernel = self._kernel(value)
        groups = self.random.choice([each for each in range(1, channels + 1) if channels % each == 0])
        outputs = groups * self.random.randint(1, max(1, 8 // groups))
        stride = (self.random.choice((1, 1, 2, 3)), self.random.choice((1, 1, 2)))
        padding: str | tuple[int, int] = tuple(self.random.randint(0, size - 1) for size in kernel)
        dilation = (1, 1)
        if stride == (1, 1) and self.random.random() < 0.3:
            padding = "same"
        elif all(2 * (size - 1) < extent for size, extent in zip(kernel, value.shape[2:], strict=True)):
            dilation = (self.random.randint(1, 2), self.random.randint(1, 2))
        layer = self._added(
            nn.Conv2d(channels, outputs, kernel, stride, padding, dilation, groups, bias=self.random.random() < 0.7)
        )
        activation = self.random.choice((torch.relu, F.relu6, nn.Identity()))
        return lambda x: activation(layer(x))

    def _depthwise(self, value: Tensor) -> Step:
        channels = value.shape[1]
        kernel = self._kernel(value)
        outputs = channels * self.random.choice((1, 1, 2))
        padding = tuple(self.random.randint(0, size // 2) for size in kernel)
        layer = self._added(nn.Conv2d(channels, outputs, kernel, 1, padding, groups=channels))
        return lambda x: torch.relu(layer(x))

    def _pool(self, value: Tensor) -> Step:
        kernel = self._kernel(value, 3)
        padding = tuple(self.random.randint(0, size // 2) for size in kernel)
        stride = self.random.choice((None, None, (1, 1), (2, 1), (2, 2)))
        ceil = self.random.random() < 0.3
        if self.random.random() < 0.6:
            return lambda x: F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil)
        counted = self.random.random() < 0.5
        return lambda x: F.avg_pool2d(x, kernel, stride, padding, ceil, counted)

    def _residual(self, value: Tensor) -> Step:
        channels = value.shape[1]
        first = self._added(nn.Conv2d(channels, self.random.randint(1, 6), 3, padding=1))
        second = self._added(nn.Conv2d(first.out_channels, channels, self.random.choice((1, 3)), padding="same"))
        return lambda x: torch.relu(second(torch.relu(first(x))) + x)

    def _branches(self, value: Tensor) -> Step:
        channels = value.shape[1]
        first = self._added(nn.Conv2d(channels, self.random.randint(1, 4), 1))
        second = self._added(nn.Conv2d(channels, self.random.randint(1, 4), 3, padding=1))
        third = self._added(nn.Conv2d(second.out_channels, self.random.randint(1, 4), (3, 1), padding=(1, 0)))
        return lambda x: torch.cat([first(x), third(torch.relu(second(x))), F.max_pool2d(x, 3, 1, 1)], 1)

    def _squeeze(self, value: Tensor) -> Step:
        channels = value.shape[1]
        layer = self._added(nn.Conv2d(channels, channels, 1))
        return lambda x: x * F.hardsigmoid(layer(F.adaptive_avg_pool2d(x, 1)))

    def _head(self, value: Tensor) -> Step:
        if self.random.random() < 0.5:
            value = F.adaptive_avg_pool2d(value, 1)
            layer = self._added(nn.Linear(value.shape[1], 3))
            return lambda x: layer(F.adaptive_avg_pool2d(x, 1).flatten(1))
        layer = self._added(nn.Linear(value[0].numel(), 4))
        return lambda x: layer(x.flatten(1))
