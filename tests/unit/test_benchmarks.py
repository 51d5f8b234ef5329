"""The benchmark runner: verdicts, tables, results that are merged, failures that show."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import __main__ as runner
from benchmarks.common import FIXTURES, Row, at_least, at_most, exactly, machine, number


@pytest.mark.parametrize(("goal", "met", "missed"), [(at_most(3), 3, 3.1), (at_least(3), 3, 2.9), (exactly(3), 3, 4)])
def test_verdicts(goal: object, met: float, missed: float) -> None:
    rows = [Row("figure", value, "LUT", "measured", goal) for value in (met, missed)]  # type: ignore[arg-type]
    assert [row.verdict for row in rows] == ["met", "missed"]
    assert Row("figure", met, "LUT", "measured").verdict == ""


@pytest.mark.parametrize(
    ("value", "text"), [(1234567, "1,234,567"), (0.123456, "0.1235"), (12.5, "12.5"), ("refused", "refused")]
)
def test_numbers(value: float | str, text: str) -> None:
    assert number(value) == text


def benchmark(monkeypatch: pytest.MonkeyPatch, name: str, *values: float, fails: bool = False) -> None:
    """Plant a benchmark of one row per value; with ``fails``, it raises after them."""

    def rows() -> Iterator[Row]:
        for value in values:
            yield Row(f"{name} figure", value, "LUT", "measured", at_most(10), peers={"MASE": 8244})
        if fails:
            raise RuntimeError("broken on purpose")

    module = ModuleType(f"benchmarks.{name}")
    module.rows = rows  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(runner, "RESULTS", tmp_path)
    monkeypatch.setattr(runner, "names", lambda: ["first", "second"])
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path


def test_results_of_some_keep_those_of_others(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark(monkeypatch, "first", 4)
    benchmark(monkeypatch, "second", 40)
    assert runner.main(["first"]) == 0
    assert runner.main(["second"]) == 0
    (path,) = results.iterdir()
    record = json.loads(path.read_text())
    assert {name: each["rows"][0]["verdict"] for name, each in record.items()} == {
        "first": "met",
        "second": "missed",
    }
    assert record["second"]["command"] == "python -m benchmarks second"
    assert record["second"]["machine"] == machine()
    assert "8,244" in capsys.readouterr().out


def test_a_broken_benchmark_costs_only_itself(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark(monkeypatch, "first", 7, fails=True)
    benchmark(monkeypatch, "second", 9)
    assert runner.main([]) == 1
    (path,) = results.iterdir()
    assert set(json.loads(path.read_text())) == {"second"}
    printed = capsys.readouterr()
    assert "failed: first" in printed.out
    assert "broken on purpose" in printed.err


def test_an_unknown_benchmark_is_named(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        runner.main(["third"])
    assert "no benchmark third; there are: first, second" in capsys.readouterr().err


def test_every_benchmark_says_what_it_measures() -> None:
    for name in runner.names():
        module = __import__(f"benchmarks.{name}", fromlist=["rows"])
        assert module.__doc__
        assert callable(module.rows)


def test_fixtures_are_present() -> None:
    assert (FIXTURES / "jet_w6.npz").stat().st_size > 100_000
