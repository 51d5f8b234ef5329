"""docs/formats.md is what the formats themselves say."""

from __future__ import annotations

from pathlib import Path

from gatewright.ir.formats import parse_format
from tools.formats_page import GROUPS, ROOT, SCALARS, page


def test_the_page_is_current() -> None:
    for name, text in page().items():
        assert (Path(ROOT) / "docs" / name).read_text() == text, "run: python tools/formats_page.py"


def test_every_listed_name_parses_back() -> None:
    for name in (*SCALARS, *GROUPS):
        assert parse_format(str(parse_format(name))) == parse_format(name)
