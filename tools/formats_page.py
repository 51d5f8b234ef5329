"""Write docs/formats.md and its plots: every number format, from its definition and from measured data.

Usage: python tools/formats_page.py [FOLDER]

The text around the tables is tools/formats_page.md. Signal-to-noise ratios come from seeded data. The
hardware columns are filled from benchmarks/results/*.json: rows called "multiply-accumulate FORMAT";
a dash where there is none.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from gatewright.ir.formats import (
    Block,
    Fixed,
    GroupFormat,
    Overflow,
    Rounding,
    ScalarFormat,
    ScaledSigns,
    parse_format,
)

if __package__:
    from tools.formats_plot import plot
else:
    from formats_plot import plot

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = (256, 256)
SCALARS = (
    "fixed<16,auto>", "fixed<8,auto>", "fixed<6,auto>", "fixed<4,auto>", "ufixed<8,8>", "float32", "bfloat16",
    "float16", "e4m3", "e5m2", "e3m4", "e3m2", "e2m3", "e2m1", "e4m3<flush>", "e3m2<denormal>",
    "log<8>", "log<5>", "log<4>", "ternary", "binary", "binary01", "e8m0",
)  # fmt: skip
GROUPS = (
    "mxint8", "mxint6", "mxint4", "mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e3m2", "mxfp6_e2m3", "mxfp4",
    "mxfp4<16>", "nvfp4", "block<fixed<8,7>,e8m0,16>", "block<e3m2,e5m0,16>", "block<log<4>,e8m0,16>",
    "block<e2m1,bfloat16,16x16>", "binary<tensor>", "binary<channel>", "ternary<mean>", "ternary<mean,max>",
    "ternary<max>", "residual<2>", "residual<3>",
)  # fmt: skip
PLOTTED = ("Gaussian", "Laplace", "outliers")


def data() -> dict[str, np.ndarray]:
    """Unit-variance samples; the outliers are one in a thousand, 30 times larger."""
    generator = np.random.default_rng(2026)
    gauss = generator.standard_normal(SAMPLES)
    laplace = generator.laplace(scale=np.sqrt(0.5), size=SAMPLES)
    outliers = generator.standard_normal(SAMPLES)
    outliers[generator.random(SAMPLES) < 1e-3] *= 30
    return {"Gaussian": gauss, "Laplace": laplace, "outliers": outliers}


def ratio(values: np.ndarray, quantised: np.ndarray) -> float:
    """Signal-to-noise ratio in dB."""
    noise = float(np.square(values - quantised).sum())
    return 10 * np.log10(float(np.square(values).sum()) / noise) if noise else np.inf


def best_ratio(form: ScalarFormat | GroupFormat, values: np.ndarray) -> float:
    """The ratio after the best power-of-two scale for the tensor; formats with scales choose their own."""
    if isinstance(form, GroupFormat):
        return ratio(values, form.quantize(values))
    if not form.is_signed:
        values = np.abs(values)
    results: list[float] = []
    middle = form.largest_exponent - 2
    for exponent in range(middle - 7, middle + 4):
        scale = 2.0**exponent
        results.append(ratio(values, form.decode(form.encode(values * scale)) / scale))
    return max(results)


def concrete(name: str) -> ScalarFormat | GroupFormat:
    """The format; automatic fraction bits become those for the range [-1, 1)."""
    form = parse_format(name)
    if isinstance(form, Fixed) and form.is_auto:
        form = form.resolve(form.width - 1)
    assert isinstance(form, ScalarFormat | GroupFormat)
    return form


def power(value: float) -> str:
    """A number for a table: a power of two as such."""
    mantissa, exponent = np.frexp(value)
    if mantissa == 0.5 and (value < 0.01 or value > 4096):
        return f"2^{int(exponent) - 1}"
    return f"{value:.4g}"


def steps(form: ScalarFormat) -> str:
    """How many different finite values there are."""
    if form.width > 16:
        return f"about 2^{form.width}"
    low, high = form.code_interval()
    codes = np.arange(low, high + 1)
    return str(np.unique(form.decode(codes[~form.is_special(codes)])).size)


def specials(form: ScalarFormat) -> tuple[str, str, str]:
    """What NaN, infinity and an overflow become, found by trying."""

    def shown(value: float, overflow: Overflow) -> str:
        result = float(form.decode(form.encode([value], Rounding.HALF_EVEN, overflow))[0])
        return {"inf": "Inf", "nan": "NaN"}.get(str(result), power(result))

    beyond = "not possible"
    if form.has_nan:
        beyond = shown(np.inf, Overflow.INFINITE)
    return shown(np.nan, Overflow.SATURATE), shown(np.inf, Overflow.SATURATE), beyond


def measured(head: str) -> dict[str, dict[str, Any]]:
    """The rows of the benchmarks' results that are called ``head`` and a format, by format."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        for benchmark in json.loads(path.read_text()).values():
            for row in benchmark.get("rows", []) if isinstance(benchmark, dict) else []:
                if row["name"].startswith(head):
                    found[row["name"].removeprefix(head)] = row
    return found


def hardware() -> dict[str, float]:
    """LUT (and DSP, where the name says so) per multiply-accumulate by format, from the benchmarks' results."""
    return {name: row["measured"] for name, row in measured("multiply-accumulate ").items()}


def speed_table() -> str:
    """Quantising and dequantising on one CPU thread, ours and other libraries', from the benchmarks' results."""
    rows = measured("quantise and dequantise ")
    others = sorted({peer for row in rows.values() for peer in row["peers"]})
    lines = [
        [f"`{name.removesuffix(', one thread')}`", f"{row['measured']:.0f}"]
        + [f"{row['peers'][peer]:.0f}" if peer in row["peers"] else "-" for peer in others]
        for name, row in rows.items()
    ]
    return table(["format", "Gatewright", *others], lines)


def costs(name: str, cost: dict[str, float]) -> tuple[str, str]:
    """The two columns of a format: LUT without DSP, and LUT and DSP with them."""
    without = f"{cost[name]:,.0f}" if name in cost else "-"
    hard = f"{name}, with DSP"
    return without, f"{cost[hard]:,.0f} + {cost[f'{hard}: DSP']:g}" if hard in cost else without


def table(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    columns = list(head)
    rows = [columns, ["---"] * len(columns), *(list(line) for line in lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def bits(form: ScalarFormat | GroupFormat) -> float:
    """Storage per element, scales included where their share does not depend on the tensor."""
    if isinstance(form, Block):
        return form.bits_per_element
    if isinstance(form, ScaledSigns):
        return form.code_bits
    return form.width


def ratios(names: Iterable[str]) -> dict[str, tuple[float, ...]]:
    """Signal-to-noise ratios of every format on all data."""
    samples = data()
    return {name: tuple(best_ratio(concrete(name), samples[kind]) for kind in PLOTTED) for name in names}


def scalar_table(figures: dict[str, tuple[float, ...]]) -> str:
    """One line per scalar format."""
    cost = hardware()
    lines: list[list[str]] = []
    for name in SCALARS:
        form = concrete(name)
        assert isinstance(form, ScalarFormat)
        low, high = form.exponent_interval
        lines.append(
            [
                f"`{name}`",
                str(form.width),
                power(float(form.largest)),
                power(float(form.smallest_positive)),
                steps(form),
                f"{form.mantissa_bits} x 2^{low}..{high}",
                *(f"{value:.1f}" for value in figures[name]),
                *costs(name, cost),
            ]
        )
    head = (
        "format",
        "bits",
        "largest",
        "smallest",
        "values",
        "integer x 2^e",
        *(f"{kind}, dB" for kind in PLOTTED),
        "LUT",
        "LUT + DSP",
    )
    return table(head, lines)


def group_table(figures: dict[str, tuple[float, ...]]) -> str:
    """One line per format with scales."""
    cost = hardware()
    lines: list[list[str]] = []
    for name in GROUPS:
        form = concrete(name)
        assert isinstance(form, GroupFormat)
        structure = form.structure if isinstance(form, Block) else f"{form.element} x {form.scale}"
        lines.append(
            [
                f"`{name}`",
                f"{bits(form):g}",
                f"`{structure}`",
                power(float(form.element.largest)),
                *(f"{value:.1f}" for value in figures[name]),
                *costs(name, cost),
            ]
        )
    head = (
        "format",
        "bits an element",
        "structure",
        "largest element",
        *(f"{kind}, dB" for kind in PLOTTED),
        "LUT",
        "LUT + DSP",
    )
    return table(head, lines)


def specials_table() -> str:
    """What each format does with NaN and infinity."""
    lines: list[list[str]] = []
    for name in SCALARS:
        form = concrete(name)
        assert isinstance(form, ScalarFormat)
        kinds = [word for word, has in (("NaN", form.has_nan), ("Inf", form.has_infinity)) if has]
        integers = "NaN as 0" + (", Inf as the largest" if form.has_infinity else "") if form.has_nan else "none"
        lines.append([f"`{name}`", " and ".join(kinds) or "none", *specials(form), integers])
    head = (
        "format",
        "special codes",
        "NaN becomes",
        "Inf becomes (saturate)",
        "Inf becomes (infinite)",
        "in integer arithmetic",
    )
    return table(head, lines)


def plots(figures: dict[str, tuple[float, ...]]) -> dict[str, str]:
    """One picture for each kind of data, by its file's name."""
    sizes = {name: bits(concrete(name)) for name in figures}
    return {
        f"formats_snr_{kind.lower()}.svg": plot(kind, sizes, {name: value[index] for name, value in figures.items()})
        for index, kind in enumerate(PLOTTED)
    }


def page() -> dict[str, str]:
    """The files: names to text."""
    figures = ratios((*SCALARS, *GROUPS))
    text = (Path(__file__).resolve().parent / "formats_page.md").read_text()
    for mark, part in (
        ("{{scalars}}", scalar_table(figures)),
        ("{{groups}}", group_table(figures)),
        ("{{specials}}", specials_table()),
        ("{{speed}}", speed_table()),
    ):
        text = text.replace(mark, part)
    return {"formats.md": text, **plots(figures)}


def main() -> None:
    """Write the files."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in page().items():
        (folder / name).write_text(text)
        print(f"wrote {name}")


if __name__ == "__main__":
    main()
