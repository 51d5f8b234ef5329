"""What compiling real networks takes, and the memories of their weights."""

from __future__ import annotations

import pytest

import gatewright as gw
from benchmarks.convolution import weight_count, weight_memory
from benchmarks.resnet50 import INTERVAL, measured
from examples.mlperf_tiny import FORMATS, prepared


@pytest.mark.parametrize(("name", "interval"), [("resnet8", 50_000), ("ds_cnn", 50_000), ("autoencoder", 16_384)])
def test_weight_memories_are_as_large_as_the_parameters(name: str, interval: int) -> None:
    model, inputs = prepared(name)
    design = gw.compile(model, (inputs[:1],), FORMATS, calibration=[inputs], interval=interval)
    assert 1.0 <= weight_memory(design) / (weight_count(model) * 8) <= 1.1


@pytest.mark.slow
def test_resnet50_compiles_at_its_full_size() -> None:
    """Seconds depend on what else the machine does: the benchmark has them."""
    found = measured()
    assert found["interval"] <= INTERVAL
    assert found["gib"] <= 12
