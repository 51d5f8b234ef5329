"""The README says what is true: its examples run as they stand, its files and targets exist."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command where nothing of the repository is at hand."""
    environment = {**os.environ, "COLUMNS": "120"}
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder, env=environment)


def test_the_python_example_runs(tmp_path: Path) -> None:
    (example,) = blocks("python")
    script = tmp_path / "example.py"
    script.write_text(example)
    done = run(sys.executable, str(script), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "200 samples equal on every bit" in done.stdout
    assert re.search(r"\d+ LUT, \d+ FF, \d+ DSP", done.stdout)
    written = [path for path in (tmp_path / "build").rglob("*.sv") if path.stat().st_size]
    assert written, "design.write left no SystemVerilog"


def test_the_formats_example_compiles() -> None:
    """The rules apply to the model of the Python example, layer `4` included."""
    import torch

    import gatewright as gw

    (text,) = blocks("toml")
    layers = [torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers, torch.nn.Linear(10, 4))
    inputs = torch.randn(20, 16)
    design = gw.compile(model, (inputs[:1],), formats=tomllib.loads(text), calibration=[inputs])
    assert str(design.integer_graph.outputs[0].format) == "fixed<16,8>"


@pytest.mark.parametrize("line", [line for block in blocks("sh") for line in block.splitlines() if line])
def test_shell_lines_name_real_targets_and_options(line: str, tmp_path: Path) -> None:
    """Every `make` target is in the Makefile; every command of the command line runs as it stands."""
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return
    assert words[0] == "gatewright"
    (tmp_path / "model.py").write_text(
        "import torch\n\n\ndef make_model():\n    torch.manual_seed(0)\n"
        "    inputs = torch.randn(8, 6)\n"
        "    model = torch.nn.Sequential(*(torch.nn.Linear(6, 6) for _ in range(5)))\n"
        "    return model, (inputs[:1],), [inputs]\n"
    )
    (tmp_path / "formats.toml").write_text(blocks("toml")[0])
    program = Path(sys.executable).with_name("gatewright")
    done = run(str(program), *words[1:], folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).is_file(), target


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 120
