"""The main job on real data: handwritten digits, from training to verified and synthesised hardware.

Trains a 64-64-32-10 network on scikit-learn's digits (8x8 images scanned from real handwriting),
quantises it to 8 bits with calibration, compiles it to SystemVerilog with a sample every 64 cycles,
checks every held-out image bit by bit in Verilator under four stall regimes, and synthesises it.

    python examples/digits.py
"""

from __future__ import annotations

import time

import torch
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import gatewright as gw

INTERVAL = 64


def load() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Training images and labels, then held-out ones; pixels from 0 to 1."""
    digits = load_digits()
    images = torch.tensor(digits.data / 16.0, dtype=torch.float32)
    labels = torch.tensor(digits.target)
    parts = train_test_split(images, labels, test_size=0.25, random_state=0, stratify=labels)
    return parts[0], parts[2], parts[1], parts[3]


def train(images: torch.Tensor, labels: torch.Tensor) -> nn.Module:
    """A float network, trained for some seconds."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
    for _ in range(60):
        for chosen in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
            optimizer.step()
    return model.eval()


def accuracy(outputs: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of images whose largest output is the right digit."""
    return (outputs.argmax(1) == labels).double().mean().item()


def main() -> None:
    """Run the whole job and print one table."""
    console = Console()
    begin = time.perf_counter()
    train_images, train_labels, images, labels = load()
    model = train(train_images, train_labels)
    console.print(f"trained on {len(train_images)} images in {time.perf_counter() - begin:.1f} s")

    design = gw.compile(
        model,
        (train_images[:1],),
        formats="fixed<8,auto>",
        calibration=[train_images],
        target=gw.Target("xcup", clock_mhz=200),
        interval=INTERVAL,
    )
    hardware = design.simulate(images)
    checks = {stalls: design.verify(images, stalls=stalls) for stalls in ("none", "input", "output", "both")}
    resources = design.synth("xcup")

    table = Table(title="Handwritten digits: 64-64-32-10 network, 8-bit, SystemVerilog in Verilator")
    table.add_column("what")
    table.add_column("value", justify="right")
    with torch.no_grad():
        table.add_row("float accuracy", f"{accuracy(model(images), labels):.2%}")
        table.add_row("quantised accuracy (PyTorch module)", f"{accuracy(design.module(images), labels):.2%}")
    table.add_row("RTL accuracy (Verilator)", f"{accuracy(hardware.outputs, labels):.2%}")
    for stalls, check in checks.items():
        table.add_row(f"images equal bit by bit, stalls: {stalls}", f"{check.samples} of {len(images)}")
    table.add_row("interval, declared / measured", f"{design.interval} / {checks['none'].interval:g} cycles")
    table.add_row("latency, declared / measured", f"{design.latency} / {checks['none'].latency} cycles")
    table.add_row("samples a second at 200 MHz", f"{200e6 / design.interval:,.0f}")
    table.add_row(f"resources, {resources.tool} {resources.version}, UltraScale+", f"{resources.lut:,} LUT")
    table.add_row("", f"{resources.ff:,} FF, {resources.dsp} DSP, {resources.bram} block RAM")
    table.add_row("time", f"{time.perf_counter() - begin:.0f} s")
    console.print(table)


if __name__ == "__main__":
    main()
