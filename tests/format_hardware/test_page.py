"""The table of docs/formats-in-hardware.md lists the pairs of formats that are simulated, no more and no fewer."""

from __future__ import annotations

from pathlib import Path

from tests.format_hardware.test_pairs import BLOCK_PAIRS, SCALAR_PAIRS, SCALED_PAIRS

PAGE = Path(__file__).parents[2] / "docs" / "formats-in-hardware.md"


def pairs_table() -> str:
    """One row for every activation: the weights with which linear and conv2d are tested."""
    pairs = [*SCALAR_PAIRS, *BLOCK_PAIRS, *SCALED_PAIRS]
    rows = [f"{len(set(pairs))} pairs, each on linear and on conv2d:", "", "| activation | weights |", "|---|---|"]
    for activation in dict.fromkeys(first for first, _ in pairs):
        weights = dict.fromkeys(f"`{weight}`" for first, weight in pairs if first == activation)
        rows.append(f"| `{activation}` | {', '.join(weights)} |")
    return "\n".join(rows)


def test_the_table_of_pairs() -> None:
    assert pairs_table() in PAGE.read_text(encoding="utf-8"), pairs_table()
