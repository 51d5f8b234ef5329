"""The command line, as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gatewright.cli import app

MODELS = Path(__file__).with_name("models.py")
FORMATS = ("--formats", "fixed<8,auto>")


def call(*arguments: str) -> tuple[int, str]:
    """The exit status and all text of one call."""
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    return done.exit_code, done.output


def test_compile_writes_a_project(tmp_path: Path) -> None:
    code, text = call("compile", f"{MODELS}:make_mlp", *FORMATS, "--interval", "24", "-o", str(tmp_path / "out"))
    assert code == 0, text
    assert (tmp_path / "out" / "rtl" / "sequential.sv").is_file()
    assert "interval" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("stalls", ["none", "both"])
def test_verify(stalls: str) -> None:
    code, text = call("verify", f"{MODELS}:make_mlp", *FORMATS, "--interval", "24", "--stalls", stalls)
    assert code == 0, text
    assert "equal: 20 samples" in text


def test_verify_without_calibration_batches() -> None:
    code, text = call("verify", f"{MODELS}:make_residual", "-f", "fixed<8,5>", "--interval", "24", "--stalls", "none")
    assert code == 0, text
    assert "equal: 1 samples" in text


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("quantised", "cast"),
        ("integer", "contract"),
        ("scheduled", "map"),
        ("module", "class "),
        ("verilog", "module "),
    ],
)
def test_show(what: str, expected: str) -> None:
    code, text = call("show", f"{MODELS}:make_mlp", *FORMATS, "--what", what)
    assert code == 0, text
    assert expected in text


def test_report_within_a_budget() -> None:
    code, text = call("report", f"{MODELS}:make_mlp", *FORMATS, "--budget", "dsp=6")
    assert code == 0, text
    assert "total" in text


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("report", "nothing"), "GW0920"),
        (("report", "missing.py:make"), "GW0921"),
        (("report", f"{MODELS}:make_mpl"), "GW0922"),
        (("report", f"{MODELS}:Residual"), "GW0923"),
        (("report", f"{MODELS}:make_mlp", *FORMATS, "--budget", "dsp"), "GW0924"),
        (("show", f"{MODELS}:make_mlp", *FORMATS, "--what", "magic"), "GW0925"),
        (("report", f"{MODELS}:make_mlp", *FORMATS, "--target", "ecp6"), "GW0701"),
        (("verify", f"{MODELS}:make_mlp", *FORMATS, "--stalls", "some"), "GW0420"),
    ],
)
def test_errors_end_with_status_one(arguments: tuple[str, ...], code: str) -> None:
    status, text = call(*arguments)
    assert status == 1
    assert code in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def make(:\n", "SyntaxError"),
        ("import no_such_module\n", "No module named 'no_such_module'"),
        ("def make():\n    raise RuntimeError('boom')\n", "boom"),
        ("def make(argument):\n    return argument\n", "missing 1 required positional argument"),
    ],
)
def test_a_model_file_that_fails(source: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "failing_model.py"
    file.write_text(source)
    status, text = call("report", f"{file}:make", *FORMATS)
    assert status == 1
    assert "GW0926" in text
    assert words in text
    assert "Traceback" not in text


def test_a_name_that_is_no_function(tmp_path: Path) -> None:
    file = tmp_path / "constant_model.py"
    file.write_text("make = 3\n")
    status, text = call("report", f"{file}:make", *FORMATS)
    assert (status, "GW0922" in text) == (1, True)


def test_help_has_examples() -> None:
    for command in ("compile", "verify", "synth", "report", "show"):
        code, text = call(command, "--help")
        assert code == 0
        assert "Example: gatewright" in text


def test_version() -> None:
    from gatewright import __version__

    assert call("--version") == (0, f"gatewright {__version__}\n")


def test_report_as_json() -> None:
    code, text = call("report", f"{MODELS}:make_mlp", *FORMATS, "--fps", "1000000", "--json")
    assert code == 0, text
    read = json.loads(text)
    assert read["goal"] == "1e+06 samples/s at 100 MHz, a sample every 100 cycles"
    assert read["interval"] <= 100
