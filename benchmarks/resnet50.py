"""ResNet-50 at its full size, 224x224x3 and 1,000 classes, compiled in a process of its own: seconds and memory.

It is not simulated in Verilator. The 25.5 million weights are ROM: the target is a family without a part, whose block
memory is not limited; a named part that is too small is refused (GW0716).
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

import gatewright as gw
from benchmarks.common import Row, at_most
from examples.mlperf_tiny import FORMATS
from gatewright.ir.streams.cost import estimate_network

INTERVAL = 2_000_000


class Logits(nn.Module):
    """transformers' ResNet-50 with random weights; its logits alone."""

    def __init__(self) -> None:
        from transformers import ResNetConfig, ResNetForImageClassification

        super().__init__()
        config = ResNetConfig()
        config.num_labels = 1000
        self.model = ResNetForImageClassification(config)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [batch, 1000] of images [batch, 3, 224, 224]."""
        return self.model(x).logits


def compiled() -> dict[str, Any]:
    """Compile here; seconds, peak GiB of the process, and what came out."""
    torch.manual_seed(0)
    model = Logits().train()
    x = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        model(x)  # statistics of the batch norms
    began = time.perf_counter()
    design = gw.compile(model.eval(), (x[:1],), FORMATS, calibration=[x], interval=INTERVAL)
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "interval": design.interval,
        "latency": design.latency,
        "multipliers": design.schedule.folding.multipliers,
        "bram": estimate_network(design.schedule.network).bram,
    }


def measured() -> dict[str, Any]:
    """The figures of a process that does nothing else. Raises CalledProcessError where it fails."""
    command = [sys.executable, "-m", "benchmarks.resnet50"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def rows() -> Iterator[Row]:
    """Seconds and memory of the compiler, interval and size of the design."""
    # The first call compiles the token simulation, once a machine.
    gw.compile(nn.Linear(4, 4), (torch.randn(2, 4),), FORMATS, calibration=[torch.randn(2, 4)])
    found = measured()
    note = f"latency {found['latency']:,} cycles; weights in ROM"
    yield Row("ResNet-50: gw.compile", found["seconds"], "s", "measured", at_most(120))
    yield Row("ResNet-50: peak memory of the process", found["gib"], "GiB", "measured", at_most(12))
    yield Row("ResNet-50: interval", found["interval"], "cycles", "simulated", at_most(INTERVAL), note=note)
    yield Row("ResNet-50: multipliers", found["multipliers"], "multipliers", "estimated")
    yield Row("ResNet-50: block RAM of 18 kilobits", round(found["bram"]), "blocks", "estimated")


if __name__ == "__main__":
    print(json.dumps(compiled()))
