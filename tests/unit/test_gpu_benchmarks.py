"""The GPU benchmarks' checks and their runner, which need no GPU: a wrong output fails the run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from benchmarks.gpu import __main__ as runner
from benchmarks.gpu import backend, conversions, plot
from benchmarks.gpu.measure import Context, Row, relative_error, within
from gatewright.kernels.formats import FORMATS, dequantize_reference, pack, quantize_reference, unpack
from gatewright.sim import golden

RESULT = Path(runner.__file__).parents[1] / "results" / "gpu_h200.json"


def planted(monkeypatch: pytest.MonkeyPatch, **rows: bool) -> None:
    """A group of rows, and whether each is right; and a machine that has a GPU."""

    def make(context: Context) -> Iterator[Row]:
        for name, correct in rows.items():
            yield context.bandwidth_row("planted", name, "triton", 0.2, 8e8, 0.9, correct)

    module = ModuleType("benchmarks.gpu.conversions")
    module.rows = make  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(runner, "copy_rate", lambda: (4200.0, 4300.0))
    monkeypatch.setattr(runner, "versions", lambda: {"device": "a GPU"})
    monkeypatch.setattr(runner, "driver", lambda: "1")


@pytest.mark.parametrize("correct", [True, False])
def test_a_wrong_row_fails_the_run(
    correct: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planted(monkeypatch, first=True, second=correct)
    output = tmp_path / "result.json"
    monkeypatch.setattr(sys, "argv", ["gpu", "--only", "conversions", "--output", str(output)])
    assert runner.main() == (0 if correct else 1)
    text = capsys.readouterr().out
    assert ("WRONG" in text) != correct
    assert f"2 rows, 2 goals met, 0 missed, {0 if correct else 1} wrong" in text
    record = json.loads(output.read_text())
    assert [row["correct"] for row in record["rows"]] == [True, correct]


def test_without_a_file_the_json_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    planted(monkeypatch, first=True)
    monkeypatch.setattr(sys, "argv", ["gpu", "--only", "conversions"])
    assert runner.main() == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-2])
    assert record["command"] == "python -m benchmarks.gpu --only conversions"
    assert [row["what"] for row in record["rows"]] == ["first"]


def test_the_driver_of_two_gpus_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for told, expected in (("580.1\n580.1\n", "580.1"), ("", "")):
        done = subprocess.CompletedProcess([], 0, stdout=told)
        monkeypatch.setattr(subprocess, "run", lambda *_, done=done, **__: done)
        assert runner.driver() == expected


def test_rounding_alone_keeps_to_the_limit_of_causal_rows() -> None:
    """The prefill kernel's arithmetic: scaled queries, weights and results in bfloat16."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(64, 48, 256).bfloat16() for _ in range(3))
    future = torch.full((48, 48), -torch.inf).triu(1)
    scores = (q.float() * (1.4426950408889634 / 16)).bfloat16().float() @ k.float().mT + future
    weights = torch.exp2(scores - scores.amax(-1, keepdim=True))
    found = (weights.bfloat16().float() @ v.float() / weights.sum(-1, keepdim=True)).bfloat16()
    expected = torch.softmax(q.double() @ k.double().mT / 16 + future.double(), -1) @ v.double()
    assert within(found, expected, 6e-3, by_row=True)
    found[5, 40, 7] += 0.1
    assert not within(found, expected, 6e-3, by_row=True)


def test_one_wrong_element_is_seen() -> None:
    expected = torch.randn(512, 512)
    found = expected.bfloat16()
    assert within(found, expected, 4e-3)
    for wrong in (torch.nan, torch.inf, 0.0, 5.0):
        broken = found.clone()
        broken[300, 7] = wrong if wrong != 0.0 else -broken.abs().max()
        assert not within(broken, expected, 4e-3)
    broken = found.clone()
    broken[300, 7] += 1  # too little for a norm of all elements
    assert relative_error(broken, expected) < 4e-3
    assert not within(broken, expected, 4e-3)
    sizes = torch.logspace(0, -3, 512)[:, None]  # of rows
    found, expected = found * sizes, expected * sizes
    assert within(found, expected, 4e-3, by_row=True)
    broken = found.clone()
    broken[511, 7] += 0.01
    assert within(broken, expected, 4e-3) and not within(broken, expected, 4e-3, by_row=True)
    assert not within(found[:-1], expected, 4e-3)
    assert not within(found[:0], expected[:0], 4e-3)  # nothing was compared
    blocks = quantize_reference(expected, FORMATS["mxint8"])
    assert conversions.same_blocks(blocks, lambda part: quantize_reference(expected[part], FORMATS["mxint8"]))
    blocks[0][-1, -1] ^= 1
    assert not conversions.same_blocks(blocks, lambda part: quantize_reference(expected[part], FORMATS["mxint8"]))


@pytest.mark.parametrize("name", list(FORMATS))
def test_what_plain_pytorch_computes_is_the_same_function(name: str) -> None:
    """A faster wrong rival would be no rival."""
    form = FORMATS[name]
    x = (torch.randn(64, 128) * torch.pow(2.0, torch.randint(-20, 20, (64, 1)).float())).bfloat16()
    expected = quantize_reference(x, form)
    found = conversions.eager_quantize(form)(x)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])
    low, high = (115, 140) if form.scale == "e8m0" else (40, 80)
    scales = torch.randint(low, high, (64, 128 // form.size), dtype=torch.uint8)
    codes = pack(torch.randint(0, 1 << form.bits, (64, 128)), form)
    values = conversions.eager_dequantize(form, "cpu")(codes, scales)
    wanted = dequantize_reference(codes, scales, form, torch.bfloat16)
    number = ~wanted.isnan()
    assert torch.equal(values[number], wanted[number]) and values[~number].isnan().all()
    assert unpack(codes, form).shape == values.shape


@pytest.mark.parametrize("name", list(FORMATS))
def test_random_blocks_are_numbers(name: str) -> None:
    """A NaN in every row would leave nothing of a product to check."""
    form = FORMATS[name]
    values = dequantize_reference(*conversions.random_blocks(form, 64, 512, "cpu"), form, torch.bfloat16)
    assert values.isfinite().all()
    assert len(values.unique()) > 20


def test_the_exact_contraction_is_the_golden_model() -> None:
    weights = np.random.default_rng(1).integers(-128, 128, size=(5, 300))
    x = torch.randint(-128, 128, (7, 300))
    (expected,) = golden.evaluate(backend.contraction(300, 5, weights), [x.numpy()])
    assert (backend.exact_contraction(x, torch.from_numpy(weights)).numpy() == expected).all()


def test_the_picture_has_every_row_that_memory_bounds() -> None:
    record = json.loads(RESULT.read_text())
    shares = dict(plot.shares(record))
    assert set(shares) == {row["what"] for row in record["rows"] if row["unit"] == "GB/s"}
    for what, entry in shares.items():
        rows = [row for row in record["rows"] if row["what"] == what]
        assert all(0.0 < share < 1.1 for share in entry.values())
        assert ("eager" in entry) == any(row["variant"] == "eager" for row in rows)
    assert shares["mxint8 -> bfloat16"]["ours"] == next(
        row["share"] for row in record["rows"] if (row["what"], row["variant"]) == ("mxint8 -> bfloat16", "triton")
    )
