"""The public interface, end to end: compile, module, golden, simulate, verify, report, write."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import gatewright as gw
from tests.e2e.models import make_mlp, make_residual

REGIMES = ("none", "input", "output", "both")


@pytest.fixture(scope="module")
def mlp() -> gw.Design:
    model, example, batches = make_mlp()
    return gw.compile(model, example, formats="fixed<8,auto>", calibration=batches, interval=24)


@pytest.mark.parametrize("stalls", REGIMES)
def test_hardware_equals_golden_and_module(mlp: gw.Design, stalls: str) -> None:
    inputs = torch.rand(30, 16) * 2 - 1
    done = mlp.simulate(inputs, stalls=stalls)
    assert torch.equal(done.outputs, mlp(inputs))
    assert torch.equal(mlp.module(inputs).double(), mlp(inputs))
    assert mlp.verify(inputs, stalls=stalls).samples == 30


def test_declared_cycles_are_the_measured_ones(mlp: gw.Design) -> None:
    check = mlp.verify(torch.rand(30, 16))
    assert (check.interval, check.latency) == (mlp.interval, mlp.latency)
    assert mlp.interval <= 24


@pytest.mark.parametrize("interval", [1, 2, 5, 12, 40, 144])
def test_residual_with_two_inputs_and_outputs(interval: int) -> None:
    model, example = make_residual()
    design = gw.compile(model, example, formats="fixed<8,5>", interval=interval)
    inputs = (torch.rand(16, 12) * 2 - 1, torch.rand(16, 6) * 2 - 1)
    check = design.verify(*inputs)
    assert check.latency == design.latency
    assert check.interval == design.interval <= interval
    for stalls in REGIMES[1:]:
        assert design.verify(*inputs, stalls=stalls).samples == 16
    named = {"left": inputs[0], "right": inputs[1]}
    assert all(torch.equal(a, b) for a, b in zip(design(named), design(*inputs), strict=True))


def test_a_planted_fault_is_found_and_named(mlp: gw.Design) -> None:
    model, example, batches = make_mlp()
    design = gw.compile(model, example, formats="fixed<8,auto>", calibration=batches, interval=24)
    files = dict(design.hardware.files)
    name = next(name for name in files if "n2" in name and name.endswith("weights.hex"))
    first = files[name].splitlines()[0]
    flipped = f"{int(first, 16) ^ 1:0{len(first)}x}"
    files[name] = files[name].replace(first, flipped, 1)
    object.__setattr__(design.hardware, "files", files)
    with pytest.raises(gw.MismatchError) as caught:
        design.verify(torch.rand(10, 16) * 2 - 1)
    assert "differ first in `2`" in str(caught.value)
    assert "sample" in str(caught.value)


def test_a_fault_behind_an_image_of_one_position_is_named() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 3, 1, 1)
    design = gw.compile(torch.nn.Conv2d(3, 2, 1).eval(), (x[:1],), formats="fixed<6,3>")
    files = dict(design.hardware.files)
    name = next(name for name in files if name.endswith("weights.hex"))
    first = files[name].splitlines()[0]
    files[name] = files[name].replace(first, f"{int(first, 16) ^ 1:0{len(first)}x}", 1)
    object.__setattr__(design.hardware, "files", files)
    with pytest.raises(gw.MismatchError) as caught:
        design.verify(x)
    assert "hardware and golden model differ first in" in str(caught.value)


def test_fps_and_budget() -> None:
    model, example, batches = make_mlp()
    options = {"formats": "fixed<8,auto>", "calibration": batches}
    target = gw.Target("ecp5-85k", clock_mhz=100)
    assert gw.compile(model, example, target=target, fps=2e6, **options).interval <= 50
    small = gw.compile(model, example, budget={"dsp": 4}, **options)
    large = gw.compile(model, example, budget={"dsp": 40}, **options)
    assert large.interval < small.interval
    assert small.report().total.dsp <= 4
    assert large.report().total.dsp <= 40


def test_report_names_layers_and_sources(mlp: gw.Design) -> None:
    report = mlp.report()
    assert {"0", "2"} <= {row.name for row in report.layers}
    assert "simulation" in report.sources["interval"]
    assert "estimated" in report.sources["resources"]
    assert f"interval {mlp.interval} cycles" in str(report)


def test_output_is_stable_from_run_to_run() -> None:
    model, example, batches = make_mlp()
    made = [gw.compile(model, example, formats="fixed<8,auto>", calibration=batches, interval=24) for _ in range(2)]
    assert made[0].hardware.files == made[1].hardware.files
    assert str(made[0].integer_graph) == str(made[1].integer_graph)


def test_write_is_all_or_nothing(mlp: gw.Design, tmp_path: Path) -> None:
    folder = mlp.write(tmp_path / "build")
    assert {each.name for each in folder.iterdir()} == {
        "rtl",
        "simulation",
        "synthesis",
        "report.txt",
        "report.json",
        "gatewright.txt",
    }
    mlp.write(tmp_path / "build")
    assert [each.name for each in tmp_path.iterdir()] == ["build"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("keep")
    with pytest.raises(gw.GatewrightError) as caught:
        mlp.write(other)
    assert caught.value.code == "GW0911"
    assert (other / "mine.txt").read_text() == "keep"
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(gw.GatewrightError) as caught:
        mlp.write(blocked / "build")
    assert caught.value.code == "GW0910"


@pytest.mark.parametrize("stalls", ["none", "both"])
def test_cocotb_agrees_after_a_reset_in_mid_stream(mlp: gw.Design, stalls: str) -> None:
    done = mlp.verify_with_cocotb(torch.rand(6, 16) * 2 - 1, stalls=stalls)
    assert done.samples == 6
    assert done.cycles >= 5 * mlp.interval


def test_quality_names_layers_and_falls_with_fewer_bits() -> None:
    model, example, batches = make_mlp()
    wide, narrow = (
        gw.compile(model, example, formats=f"fixed<{width},auto>", calibration=batches).quality(batches)
        for width in (8, 4)
    )
    assert {row.module for row in wide} >= {"0", "2"}
    assert wide[-1].sqnr > narrow[-1].sqnr + 12
