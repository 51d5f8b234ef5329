"""Every error of the frontend, as the user reads it, against a snapshot.

After a wanted change run with ``GATEWRIGHT_UPDATE_SNAPSHOTS=1`` and read the difference.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gatewright.diagnostics import GatewrightError
from gatewright.frontend.importer import import_model
from tests.errors.bad_models import CASES

SNAPSHOTS = Path(__file__).parent / "snapshots" / "frontend"
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", CASES)
def test_message(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # paths are shown relative to the working directory
    case = CASES[name]
    with pytest.raises(GatewrightError) as caught:
        import_model(case.model(), case.inputs())
    assert tuple(each.code for each in caught.value.diagnostics) == case.codes
    text = str(caught.value) + "\n"
    path = SNAPSHOTS / f"{name}.txt"
    if os.environ.get("GATEWRIGHT_UPDATE_SNAPSHOTS"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()
