"""A LeNet-style network on scikit-learn's digits: trained, quantised to 8 and to 4 bits, verified, synthesised.

    python examples/lenet.py

Prints the accuracy of the float model, of the quantised model and of the hardware, which are equal on every
held-out image, and the cycles and resources of each design.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import gatewright as gw

INTERVAL = 600
FORMATS = {
    8: {"default": {"input": "fixed<8,auto>", "weight": "fixed<8,auto>", "bias": "fixed<16,auto>"}},
    4: {"default": {"input": "fixed<4,auto>", "weight": "fixed<4,auto>", "bias": "fixed<12,auto>"}},
}


class LeNet(nn.Module):
    """Two convolutions with pooling and two linear layers, for 8x8 images."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, x: Tensor) -> Tensor:
        """Class scores [batch, 10] of images [batch, 1, 8, 8]."""
        return self.classifier(self.features(x))


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images in 0..1 and labels, for training and for testing."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(data.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    held_out = len(labels) // 5
    test, train = order[:held_out], order[held_out:]
    return images[train], labels[train], images[test], labels[test]


def train(model: nn.Module, images: Tensor, labels: Tensor, epochs: int, rate: float) -> None:
    """Adam on cross entropy."""
    optimiser = torch.optim.Adam(model.parameters(), rate)
    for _ in range(epochs):
        for batch in torch.randperm(len(labels)).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(images[batch]).float(), labels[batch]).backward()
            optimiser.step()


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """The share of right answers in percent."""
    return 100 * float((scores.argmax(1) == labels).double().mean())


def main() -> None:
    """Train, compile, verify, synthesise, print."""
    torch.manual_seed(0)
    train_images, train_labels, images, labels = digits()
    model = LeNet()
    train(model, train_images, train_labels, 25, 2e-3)
    model.eval()
    with torch.no_grad():
        print(f"float accuracy {accuracy(model(images), labels):.2f}% on {len(labels)} held-out images")
    for bits, formats in FORMATS.items():
        design = gw.compile(model, (images[:1],), formats, calibration=[train_images[:256]], interval=INTERVAL)
        with torch.no_grad():
            quantised = accuracy(design.module(images), labels)
        hardware = accuracy(design.simulate(images).outputs, labels)
        for stalls in ("none", "input", "output", "both"):
            design.verify(images, stalls=stalls)
        used = design.synth("xcup")
        print(
            f"{bits} bits: quantised {quantised:.2f}%, hardware {hardware:.2f}% (equal bit for bit under all stalls); "
            f"interval {design.interval}, latency {design.latency} cycles, "
            f"{design.schedule.folding.multipliers} multipliers; "
            f"{used.lut} LUT, {used.ff} FF, {used.dsp} DSP, {used.bram} block RAMs"
        )


if __name__ == "__main__":
    main()
