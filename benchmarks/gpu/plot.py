"""Draw the roofline of a result file: ``python -m benchmarks.gpu.plot RESULT.json [PICTURE.png]``.

The rows that memory bounds, each as a share of its ceiling: the copy or the read bandwidth of the same run. Rows that
arithmetic bounds (products and attention of many rows) are in the table, beside the library's kernel.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

# Every variant that is not named here is one of ours.
LIBRARIES = ("cublas", "cudnn", "flash", "_int_mm", "clone", "sum", "torch.sum")
OTHERS = ("compile", "eager", "PyTorch")
COLOURS = {"ours": "#1f5fa8", "library": "#9a9a9a", "compile": "#d08b2a", "eager": "#d9c7a3"}


def shares(record: dict[str, Any]) -> list[tuple[str, dict[str, float]]]:
    """(what, {who: share of the ceiling}) of the bandwidth rows; of ours the last, which the operator takes."""
    found: dict[str, dict[str, float]] = {}
    for row in record["rows"]:
        if row["unit"] != "GB/s":
            continue
        variant = row["variant"]
        who = "library" if variant in LIBRARIES else variant if variant in OTHERS else "ours"
        found.setdefault(row["what"], {})[who] = row["share"]
    return list(found.items())


def draw(record: dict[str, Any], picture: Path) -> None:
    """The bars, one line for each row, with the ceiling at 100%."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = shares(record)[::-1]
    figure, axes = pyplot.subplots(figsize=(9, 0.3 * len(rows) + 1.6), layout="constrained")
    for index, (_, entry) in enumerate(rows):
        if "ours" in entry or "library" in entry:
            who = "ours" if "ours" in entry else "library"
            axes.barh(index, entry[who] * 100, height=0.62, color=COLOURS[who], zorder=2)
            axes.text(max(entry.values()) * 100 + 1.5, index, f"{entry[who]:.0%}", va="center", fontsize=7, zorder=4)
        for who, marker in (("compile", "D"), ("eager", "o")):
            if who in entry:
                axes.plot(entry[who] * 100, index, marker, color=COLOURS[who], markersize=5, zorder=3,
                          markeredgecolor="white", markeredgewidth=0.5)  # fmt: skip
    axes.axvline(100, color="black", linewidth=1, zorder=1)
    axes.set_yticks(range(len(rows)), [what for what, _ in rows], fontsize=7)
    axes.set_xlim(0, 115)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel("share of the copy bandwidth (conversions, rows) or read bandwidth (decode), %")
    axes.set_title(
        f"{record['device']}: copy {record['copy_gigabytes_per_second']:.0f} GB/s, "
        f"read {record['read_gigabytes_per_second']:.0f} GB/s, {record['date']}",
        fontsize=9,
    )
    handles = [
        pyplot.Rectangle((0, 0), 1, 1, color=COLOURS["ours"], label="Gatewright"),
        pyplot.Rectangle(
            (0, 0), 1, 1, color=COLOURS["library"], label="cuBLAS, cuDNN (bfloat16), PyTorch's copy and sum"
        ),
        pyplot.Line2D([], [], marker="D", linestyle="", color=COLOURS["compile"], label="torch.compile"),
        pyplot.Line2D([], [], marker="o", linestyle="", color=COLOURS["eager"], label="PyTorch, eager"),
    ]
    figure.legend(handles=handles, fontsize=7, loc="outside lower center", ncols=4, frameon=False)
    axes.grid(axis="x", color="#e5e5e5", zorder=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    figure.savefig(picture, dpi=150)


if __name__ == "__main__":
    source = Path(sys.argv[1])
    draw(json.loads(source.read_text()), Path(sys.argv[2]) if len(sys.argv) > 2 else source.with_suffix(".png"))
