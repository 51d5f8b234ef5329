"""Writes a design as a project folder: sources, memories, testbench, synthesis scripts, report."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gatewright.diagnostics import error

if TYPE_CHECKING:
    from gatewright.api import Design

TESTBENCH_SAMPLES = 8

YOSYS_SCRIPTS = {
    "xcup": ("synth_xilinx -family xcup -flatten -noiopad -top {top}", " -nodsp"),
    "ecp5": ("synth_ecp5 -top {top} -json {top}_ecp5.json", " -nodsp"),
    "ice40": ("synth_ice40 -dsp -top {top} -json {top}_ice40.json", ""),
}
"""Each family's command, and what forbids it multipliers: for ice40 that is the lack of -dsp."""


def write_project(design: Design, folder: Path) -> Path:
    """Write everything into ``folder``: written aside first, then moved into place, so that nothing
    half-written is left. An existing folder is replaced only where Gatewright wrote it.

    Raises GW0910 where the folder cannot be written and GW0911 where it holds something else.
    """
    try:
        folder = folder.resolve()
        exists = folder.exists()
    except (OSError, ValueError) as problem:
        raise _unwritable(folder, problem) from None
    if exists and not (folder / "gatewright.txt").is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise error(
            "GW0911",
            f"{folder} exists and was not written by Gatewright",
            help="choose another folder, or remove this one",
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as problem:
        raise _unwritable(folder, problem) from None
    try:
        _write_files(design, aside)
        aside.chmod(0o755)
        _move_into_place(aside, folder)
    except OSError as problem:
        raise _unwritable(folder, problem) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _unwritable(folder: Path, problem: OSError | ValueError) -> Exception:
    return error(
        "GW0910",
        f"cannot write {folder}",
        note=f"{getattr(problem, 'strerror', None) or problem}",
        help="choose a folder that you may write, with space left",
    )


def _move_into_place(aside: Path, folder: Path) -> None:
    if folder.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
        folder.replace(old / "old")
        aside.replace(folder)
        shutil.rmtree(old, ignore_errors=True)
    else:
        aside.replace(folder)


def _write_files(design: Design, folder: Path) -> None:
    from gatewright.backends.verilog.emit import header, templates
    from gatewright.diagnostics import Location
    from gatewright.sim import golden
    from gatewright.sim.verify import ports_of, to_words

    hardware, network = design.hardware, design.schedule.network
    hardware.write(folder / "rtl")
    (folder / "gatewright.txt").write_text(f"{design.integer_graph}\n\n{design.schedule.graph}\n")
    report = design.report()
    (folder / "report.txt").write_text(f"{report}\n")
    (folder / "report.json").write_text(f"{report.json()}\n")
    sources = " ".join(sorted(name for name in hardware.files if name.endswith(".sv")))
    scripts = folder / "synthesis"
    scripts.mkdir()
    for family, (command, no_dsp) in YOSYS_SCRIPTS.items():
        if not design.target.has_multipliers:
            command = command.replace(" -dsp", "") + no_dsp
        text = f"# run in ../rtl: yosys -s ../synthesis/{family}.ys\nread_verilog -sv {sources}\n"
        text += command.format(top=hardware.top) + "\nstat\n"
        (scripts / f"{family}.ys").write_text(text)
    # Vectors: random codes over each input's whole range, and what the golden model makes of them.
    generator = np.random.default_rng(0)
    codes = [
        generator.integers(value.interval.low, value.interval.high + 1, (TESTBENCH_SAMPLES, *value.shape))
        for value in design.integer_graph.inputs
    ]
    codes = design.schedule.carried(codes)
    expected = golden.evaluate(design.schedule.graph, codes)
    simulation = folder / "simulation"
    simulation.mkdir()
    channels = [*network.inputs, *network.outputs]
    for channel, array in zip(channels, [*codes, *expected], strict=True):
        words = to_words(np.asarray(array), channel.layout, channel.value.width)
        (simulation / f"{channel.name}.hex").write_text(_hex_lines(words, channel.width))
    ports: list[dict[str, object]] = []
    for port, channel in zip(ports_of(network), channels, strict=True):
        layout = channel.layout
        used = layout.elements - (layout.beats_per_row - 1) * layout.lanes
        ports.append(
            {
                "name": port.name,
                "direction": port.direction,
                "width": port.width,
                "bytes": port.bytes,
                "words": TESTBENCH_SAMPLES * port.beats,
                "beats": port.beats,
                "beats_per_row": layout.beats_per_row,
                "padded": layout.is_padded,
                "tail": f"{port.width}'h{(1 << used * channel.value.width) - 1:x}",
            }
        )
    text = (
        templates()
        .get_template("testbench.sv.j2")
        .render(
            header=header(f"testbench of {hardware.top}", Location(), "see the top level"),
            top=hardware.top,
            ports=ports,
            limit=100 * TESTBENCH_SAMPLES * max(design.interval, design.latency),
        )
    )
    (simulation / f"{hardware.top}_tb.sv").write_text(text)


def _hex_lines(words: np.ndarray, width: int) -> str:
    rows = words.reshape(-1, 1) if words.ndim == 1 else words
    digits = -(-width // 4)
    lines: list[str] = []
    for row in rows:
        number = sum(int(limb) << (64 * position) for position, limb in enumerate(row))
        lines.append(f"{number:0{digits}x}")
    return "\n".join(lines) + "\n"
