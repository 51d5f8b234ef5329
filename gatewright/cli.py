"""The command line: ``gatewright compile|verify|synth|report|show MODEL.py:make_model``.

Progress and colour appear on a terminal only. A ``GatewrightError`` ends with status 1 and its
message on standard error.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from gatewright import __version__
from gatewright.diagnostics import GatewrightError, error

if TYPE_CHECKING:
    from gatewright.api import Design

app = typer.Typer(
    name="gatewright",
    help="Compile PyTorch models to SystemVerilog that equals the quantised model bit for bit.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)
output = Console()
messages = Console(stderr=True)

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL.py:FUNCTION",
        help="A Python file and a function in it that returns the model and its example inputs, and "
        "optionally calibration batches.",
    ),
]
FormatsOption = Annotated[
    str | None, typer.Option("--formats", "-f", help='One cast for everything ("fixed<8,auto>"), or a TOML file.')
]
TargetOption = Annotated[str, typer.Option("--target", "-t", help="The part, such as xcup or ecp5-85k.")]
ClockOption = Annotated[float, typer.Option("--clock", help="The clock to pipeline for, in MHz.")]
IntervalOption = Annotated[int | None, typer.Option("--interval", "-i", help="Cycles between samples.")]
FpsOption = Annotated[float | None, typer.Option("--fps", help="Samples a second, instead of an interval.")]
BudgetOption = Annotated[
    str | None, typer.Option("--budget", help='Most resources, instead of an interval: "lut=5000,dsp=20".')
]


def print_version(asked: bool) -> None:
    """Print the version and end, where ``--version`` asked for it."""
    if asked:
        output.print(f"gatewright {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def common_options(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Compile PyTorch models to SystemVerilog that equals the quantised model bit for bit."""


@contextmanager
def progress(text: str) -> Iterator[None]:
    """A spinner while something long runs; nothing where there is no terminal."""
    if messages.is_terminal:
        with messages.status(text):
            yield
    else:
        yield


@contextmanager
def reported() -> Iterator[None]:
    """Print an error as its message, without a traceback, and end with status 1."""
    try:
        yield
    except GatewrightError as problem:
        for number, each in enumerate(problem.diagnostics):
            head, _, rest = each.render().partition("\n")
            messages.print("" if number == 0 else "\n", end="")
            messages.print(head, style="bold red", markup=False, highlight=False)
            if rest:
                messages.print(rest, markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None


@contextmanager
def user_code(what: str) -> Iterator[None]:
    """Raise GW0926 for whatever goes wrong in the user's own file, with the line that it happened on."""
    try:
        yield
    except GatewrightError:
        raise
    except Exception as problem:
        told = "".join(traceback.format_exception_only(problem)).strip()
        from gatewright.frontend.locations import traceback_location

        place = traceback_location(problem.__traceback__)
        raise error(
            "GW0926", f"{what} fails", location=place, note=told, help="make it run in Python by itself first"
        ) from problem


def load_model(reference: str) -> tuple[Any, Any, Any]:
    """The model, example inputs and calibration batches (or None) that ``FILE.py:FUNCTION`` returns."""
    path, _, function = reference.rpartition(":")
    if not path or not function:
        raise error("GW0920", f"`{reference}` is not FILE.py:FUNCTION", help="for example model.py:make_model")
    file = Path(path)
    if not file.is_file():
        raise error("GW0921", f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(file.parent))
    sys.modules[file.stem] = module
    with user_code(path):
        spec.loader.exec_module(module)
    maker: Callable[[], Any] | None = getattr(module, function, None)
    if not callable(maker):
        known = [name for name in vars(module) if callable(getattr(module, name)) and not name.startswith("_")]
        raise error("GW0922", f"{path} has no function `{function}`", note=f"it has: {', '.join(known)}")
    with user_code(f"{path}:{function}"):
        made = maker()
    if not isinstance(made, tuple) or len(made) not in (2, 3):  # pyright: ignore[reportUnknownArgumentType]
        raise error("GW0923", f"`{function}` returned {type(made).__name__}", help="return (model, example_inputs)")  # pyright: ignore[reportUnknownArgumentType]
    parts: tuple[Any, ...] = made  # pyright: ignore[reportUnknownVariableType]
    return parts[0], parts[1], parts[2] if len(parts) == 3 else None


def read_budget(text: str | None) -> dict[str, int] | None:
    """``"lut=5000,dsp=20"`` as a dictionary."""
    if text is None:
        return None
    budget: dict[str, int] = {}
    for part in text.split(","):
        name, _, amount = part.partition("=")
        if not amount.strip().isdigit():
            raise error("GW0924", f"`{part}` is not NAME=NUMBER", help='for example --budget "lut=5000,dsp=20"')
        budget[name.strip()] = int(amount)
    return budget


def make_design(
    model: str,
    formats: str | None,
    target: str,
    clock: float,
    interval: int | None,
    fps: float | None,
    budget: str | None,
) -> tuple[Design, Any, Any]:
    """Load and compile; the design, the example inputs and the calibration batches."""
    import gatewright as gw

    with progress(f"loading {model}"):
        module, example, calibration = load_model(model)
    source: Any = Path(formats) if formats and formats.endswith(".toml") else formats
    batches = list(calibration) if calibration is not None else None
    with progress("compiling"):
        design = gw.compile(
            module,
            example,
            formats=source,
            calibration=batches,
            target=gw.Target(target, clock),
            interval=interval,
            fps=fps,
            budget=read_budget(budget),
        )
    return design, example, batches


@app.command("compile")
def compile_command(
    model: ModelArgument,
    folder: Annotated[Path, typer.Option("--output", "-o", help="The project folder to write.")] = Path("build"),
    formats: FormatsOption = None,
    target: TargetOption = "xcup",
    clock: ClockOption = 100.0,
    interval: IntervalOption = None,
    fps: FpsOption = None,
    budget: BudgetOption = None,
) -> None:
    """Compile a model and write SystemVerilog, memories, testbench, synthesis project and report.

    Example: gatewright compile model.py:make_model -f "fixed<8,auto>" --interval 64 -o build
    """
    with reported():
        design, _, _ = make_design(model, formats, target, clock, interval, fps, budget)
        with progress("writing"):
            written = design.write(folder)
        output.print(design.report().table())
        output.print(f"written to {written}", highlight=False, soft_wrap=True)


@app.command()
def verify(
    model: ModelArgument,
    formats: FormatsOption = None,
    target: TargetOption = "xcup",
    clock: ClockOption = 100.0,
    interval: IntervalOption = None,
    fps: FpsOption = None,
    budget: BudgetOption = None,
    stalls: Annotated[str, typer.Option(help="none, input, output, both, or all.")] = "all",
) -> None:
    """Simulate the hardware in Verilator and compare every bit with the golden model.

    Runs on the calibration batches if the model's function returns them, else on the example inputs.

    Example: gatewright verify model.py:make_model -f "fixed<8,4>" --stalls both
    """
    from gatewright.sim.verify import STALLS

    with reported():
        design, example, batches = make_design(model, formats, target, clock, interval, fps, budget)
        for regime in STALLS if stalls == "all" else (stalls,):
            for batch in batches or [example]:
                inputs = batch if isinstance(batch, tuple | dict | list) else (batch,)  # pyright: ignore[reportUnknownVariableType]
                with progress(f"simulating, stalls: {regime}"):
                    check = design.verify(inputs, stalls=regime)
                output.print(
                    f"equal: {check.samples} samples, stalls {regime}, interval {check.interval:g} "
                    f"(declared {design.interval}), latency {check.latency} (declared {design.latency})",
                    highlight=False,
                    soft_wrap=True,
                )


@app.command()
def synth(
    model: ModelArgument,
    family: Annotated[str | None, typer.Option(help="xcup, ecp5 or ice40; by default the target's.")] = None,
    formats: FormatsOption = None,
    target: TargetOption = "xcup",
    clock: ClockOption = 100.0,
    interval: IntervalOption = None,
    fps: FpsOption = None,
    budget: BudgetOption = None,
) -> None:
    """Synthesise with Yosys and print the resources.

    Example: gatewright synth model.py:make_model -f "fixed<8,4>" --family ecp5
    """
    with reported():
        design, _, _ = make_design(model, formats, target, clock, interval, fps, budget)
        with progress("synthesising"):
            result = design.synth(family)
        output.print(
            f"{result.lut} LUT, {result.ff} FF, {result.dsp} DSP, {result.bram} block RAM "
            f"(measured: {result.tool} {result.version})",
            highlight=False,
            soft_wrap=True,
        )


@app.command()
def report(
    model: ModelArgument,
    formats: FormatsOption = None,
    target: TargetOption = "xcup",
    clock: ClockOption = 100.0,
    interval: IntervalOption = None,
    fps: FpsOption = None,
    budget: BudgetOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")] = False,
) -> None:
    """Print the report: per layer resources, interval, latency, and what limits it.

    Example: gatewright report model.py:make_model -f "fixed<8,4>" --fps 100000 --clock 200
    """
    with reported():
        design, _, _ = make_design(model, formats, target, clock, interval, fps, budget)
        if as_json:
            output.print(design.report().json(), markup=False, highlight=False, soft_wrap=True)
        else:
            output.print(design.report().table())


@app.command()
def show(
    model: ModelArgument,
    what: Annotated[str, typer.Option(help="quantised, integer, scheduled, module or verilog.")] = "integer",
    formats: FormatsOption = None,
    target: TargetOption = "xcup",
    clock: ClockOption = 100.0,
    interval: IntervalOption = None,
    fps: FpsOption = None,
    budget: BudgetOption = None,
) -> None:
    """Print a level of the design as text.

    Example: gatewright show model.py:make_model -f "fixed<8,4>" --what module
    """
    printers: dict[str, Callable[[Design], str]] = {
        "quantised": lambda design: str(design.graph),
        "integer": lambda design: str(design.integer_graph),
        "scheduled": lambda design: str(design.schedule.graph),
        "module": lambda design: design.module.code,
        "verilog": lambda design: design.hardware.files[f"{design.hardware.top}.sv"],
    }
    with reported():
        if what not in printers:
            raise error("GW0925", f"nothing is called `{what}`", help=f"choose one of {', '.join(printers)}")
        design, _, _ = make_design(model, formats, target, clock, interval, fps, budget)
        output.print(printers[what](design), markup=False, highlight=False, soft_wrap=True)


def main() -> None:
    """The entry point of the ``gatewright`` command."""
    app()
