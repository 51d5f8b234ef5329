"""The four MLPerf Tiny architectures, with random weights: compile one, verify it in Verilator, print its figures.

    python examples/mlperf_tiny.py resnet8 --interval 50000 --samples 2

The architectures are those of the benchmark's reference models (https://github.com/mlcommons/tiny).
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise

import torch
from torch import Tensor, nn

import gatewright as gw

FORMATS = {"default": {"input": "fixed<8,auto>", "weight": "fixed<8,auto>", "bias": "fixed<16,auto>"}}


def conv_norm(
    channels: int, outputs: int, kernel: int | tuple[int, int], stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """A convolution that keeps the size at stride 1, its batch norm, and ReLU."""
    size = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (size[0] // 2, size[1] // 2)
    return nn.Sequential(
        nn.Conv2d(channels, outputs, size, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, channels: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = conv_norm(channels, outputs, 3, stride)
        self.second = conv_norm(outputs, outputs, 3)[:2]
        same = channels == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """The block on [batch, channels, height, width]."""
        return torch.relu(self.second(self.first(x)) + self.shortcut(x))


def resnet8() -> tuple[nn.Module, tuple[int, ...]]:
    """Image classification, 32x32x3, 10 classes."""
    model = nn.Sequential(
        conv_norm(3, 16, 3),
        ResidualBlock(16, 16, 1),
        ResidualBlock(16, 32, 2),
        ResidualBlock(32, 64, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )
    return model, (3, 32, 32)


def ds_cnn() -> tuple[nn.Module, tuple[int, ...]]:
    """Keyword spotting, 49x10 features, 12 classes."""
    layers: list[nn.Module] = [
        nn.ZeroPad2d((1, 1, 4, 5)),
        nn.Conv2d(1, 64, (10, 4), 2, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
    ]
    for _ in range(4):
        layers += [conv_norm(64, 64, 3, groups=64), conv_norm(64, 64, 1)]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 12)]
    return nn.Sequential(*layers), (1, 49, 10)


def mobilenet() -> tuple[nn.Module, tuple[int, ...]]:
    """Visual wake words, 96x96x3, 2 classes: MobileNetV1 of width 0.25."""
    widths = [(8, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2)]
    widths += [(128, 128, 1)] * 5 + [(128, 256, 2), (256, 256, 1)]
    layers: list[nn.Module] = [conv_norm(3, 8, 3, 2)]
    for channels, outputs, stride in widths:
        layers += [conv_norm(channels, channels, 3, stride, channels), conv_norm(channels, outputs, 1)]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 2)]
    return nn.Sequential(*layers), (3, 96, 96)


def autoencoder() -> tuple[nn.Module, tuple[int, ...]]:
    """Anomaly detection, 640 inputs, fully connected."""
    sizes = [640, 128, 128, 128, 128, 8, 128, 128, 128, 128]
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(128, 640)), (640,)


NETWORKS = {"resnet8": resnet8, "ds_cnn": ds_cnn, "mobilenet": mobilenet, "autoencoder": autoencoder}


def prepared(name: str) -> tuple[nn.Module, Tensor]:
    """A network with seeded weights and batch statistics, and calibration inputs [8, ...]."""
    torch.manual_seed(0)
    model, shape = NETWORKS[name]()
    inputs = torch.randn(8, *shape)
    model.train()
    with torch.no_grad():
        for _ in range(20):
            model(torch.randn(8, *shape))
    return model.eval(), inputs


def main() -> None:
    """Compile, verify and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=sorted(NETWORKS))
    parser.add_argument("--interval", type=int, help="cycles between samples (default: one multiplier a layer)")
    parser.add_argument("--samples", type=int, default=2, help="samples to verify in each stall regime")
    arguments = parser.parse_args()
    model, inputs = prepared(arguments.network)
    began = time.perf_counter()
    design = gw.compile(model, (inputs[:1],), FORMATS, calibration=[inputs], interval=arguments.interval)
    print(f"{arguments.network}: interval {design.interval:,}, latency {design.latency:,} cycles,", end=" ")
    print(f"{design.schedule.folding.multipliers} multipliers, compiled in {time.perf_counter() - began:.1f} s")
    for stalls in ("none", "input", "output", "both"):
        began = time.perf_counter()
        done = design.verify(inputs[: arguments.samples], stalls=stalls)
        seconds = time.perf_counter() - began
        print(
            f"  stalls {stalls:6}: {done.samples} samples equal bit for bit, {done.cycles:,} cycles in {seconds:.1f} s"
        )


if __name__ == "__main__":
    main()
