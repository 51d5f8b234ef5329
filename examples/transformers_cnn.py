"""Convolutional networks from transformers' configurations, scaled down: compile one, verify it, print its figures.

    python examples/transformers_cnn.py mobilenet_v2 --samples 2

ResNet with bottlenecks and MobileNetV2 are the library's own models; ConvNeXt's block is given as its
convolutions (depthwise 7x7, two pointwise with GELU, and the residual), without the layer norm.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn

import gatewright as gw

FORMATS = {"default": {"input": "fixed<8,auto>", "weight": "fixed<8,auto>", "bias": "fixed<16,auto>"}}


class Logits(nn.Module):
    """The scores alone of a model that returns more."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        """[batch, classes]."""
        return self.model(pixel_values).logits


class ConvNextConvolutions(nn.Module):
    """The convolutions of a ConvNeXt block and its residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.expand = nn.Conv2d(channels, 4 * channels, 1)
        self.project = nn.Conv2d(4 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, height, width]."""
        return x + self.project(nn.functional.gelu(self.expand(self.depthwise(x))))


def resnet() -> tuple[nn.Module, Tensor]:
    """A ResNet with bottleneck blocks."""
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(embedding_size=8, hidden_sizes=[16, 32], depths=[1, 2], layer_type="bottleneck", num_labels=4)
    return Logits(ResNetForImageClassification(config)), torch.randn(4, 3, 32, 32)


def mobilenet_v2() -> tuple[nn.Module, Tensor]:
    """MobileNetV2 of a small width."""
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    config = MobileNetV2Config(
        depth_multiplier=0.2, image_size=32, num_labels=4, finegrained_output=False, tf_padding=False
    )
    return Logits(MobileNetV2ForImageClassification(config)), torch.randn(4, 3, 32, 32)


def convnext() -> tuple[nn.Module, Tensor]:
    """Two ConvNeXt blocks behind a patch stem."""
    return nn.Sequential(nn.Conv2d(3, 8, 4, 4), ConvNextConvolutions(8), ConvNextConvolutions(8)), torch.randn(
        4, 3, 32, 32
    )


NETWORKS = {"resnet": resnet, "mobilenet_v2": mobilenet_v2, "convnext": convnext}


def prepared(name: str) -> tuple[nn.Module, Tensor]:
    """The network in evaluation, with statistics in its batch norms, and images."""
    torch.manual_seed(0)
    model, inputs = NETWORKS[name]()
    model.train()
    with torch.no_grad():
        for _ in range(10):
            model(torch.randn_like(inputs))
    return model.eval(), inputs


def main() -> None:
    """Compile, verify and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=sorted(NETWORKS))
    parser.add_argument("--interval", type=int, help="cycles between samples (default: one multiplier a layer)")
    parser.add_argument("--samples", type=int, default=2, help="samples to verify in each stall regime")
    arguments = parser.parse_args()
    model, inputs = prepared(arguments.network)
    design = gw.compile(model, (inputs[:1],), FORMATS, calibration=[inputs], interval=arguments.interval)
    print(f"{arguments.network}: interval {design.interval:,}, latency {design.latency:,} cycles,", end=" ")
    print(f"{design.schedule.folding.multipliers} multipliers")
    for stalls in ("none", "input", "output", "both"):
        done = design.verify(inputs[: arguments.samples], stalls=stalls)
        print(f"  stalls {stalls:6}: {done.samples} samples equal bit for bit, {done.cycles:,} cycles")


if __name__ == "__main__":
    main()
