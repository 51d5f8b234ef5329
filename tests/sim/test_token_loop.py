"""How the loop of the token-level simulation is compiled."""

from __future__ import annotations

from typing import Any

from gatewright.sim.token_channels import compiled


def test_code_that_cannot_be_kept_on_disk_is_compiled_all_the_same() -> None:
    scope: dict[str, Any] = {}
    exec("def following(number):\n    return number + 1", scope)  # noqa: S102 (a function that no file holds)
    assert compiled(scope["following"])(1) == 2
