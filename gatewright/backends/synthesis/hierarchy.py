"""From Yosys' statistics to resources: of the design, and of every module that kept its boundary."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from gatewright.backends.synthesis.families import Family, Resources


@dataclass(frozen=True, slots=True)
class ModuleUse:
    """One module of the design: how often it is instantiated, and what one instance takes.

    ``own`` is without the modules below it, ``total`` with them.
    """

    instances: int
    own: Resources
    total: Resources


def count_modules(statistics: Mapping[str, Any], top: str, family: Family) -> dict[str, ModuleUse]:
    """Every module's use from the output of ``stat -json``, the top first, then by name."""
    own: dict[str, Counter[str]] = {}
    children: dict[str, Counter[str]] = {}
    modules: dict[str, dict[str, Any]] = statistics["modules"]
    for name, record in modules.items():
        counts: dict[str, int] = {
            **record.get("num_cells_by_type", {}),
            **record.get("num_submodules_by_type", {}),
        }
        below = {_identifier(cell): count for cell, count in counts.items() if _identifier(cell) in modules}
        children[name] = Counter(below)
        own[name] = Counter({cell: count for cell, count in counts.items() if _is_cell(cell, modules)})

    @cache
    def total(name: str) -> Counter[str]:
        cells = Counter(own[name])
        for child, count in children[name].items():
            cells.update({cell: each * count for cell, each in total(child).items()})
        return cells

    instances: Counter[str] = Counter()

    def visit(name: str, count: int) -> None:
        instances[name] += count
        for child, each in children[name].items():
            visit(child, count * each)

    root = _identifier(top)
    visit(root, 1)
    shown = _readable(sorted(instances, key=lambda name: (name != root, name)))
    return {
        shown[name]: ModuleUse(instances[name], family.resources(own[name]), family.resources(total(name)))
        for name in shown
    }


def _identifier(name: str) -> str:
    """The name as the statistics key their modules."""
    return name if name.startswith(("\\", "$")) else "\\" + name


def _is_cell(name: str, modules: Mapping[str, Any]) -> bool:
    return _identifier(name) not in modules and name != "$scopeinfo"


def _readable(names: list[str]) -> dict[str, str]:
    """Names as the sources have them, with the parameters that tell two variants apart."""
    shown: dict[str, str] = {}
    for name in names:
        text, number = _readable_name(name), 2
        while text in shown.values():
            text, number = f"{_readable_name(name)}#{number}", number + 1
        shown[name] = text
    return shown


def _readable_name(name: str) -> str:
    if hashed := re.fullmatch(r"\$paramod\$([0-9a-f]+)\\(.+)", name):
        return f"{hashed[2]}[{hashed[1][:8]}]"
    if name.startswith("$paramod\\"):
        module, *parameters = name.removeprefix("$paramod\\").split("\\")
        return f"{module}[{', '.join(map(_readable_parameter, parameters))}]"
    return name.removeprefix("\\")


def _readable_parameter(text: str) -> str:
    """``Width=s32'0...01000`` as ``Width=8``; anything else as it is."""
    if match := re.fullmatch(r"(\w+)=(s?)\d+'([01]+)", text):
        name, sign, bits = match.groups()
        value = int(bits, 2)
        return f"{name}={value - (1 << len(bits)) if sign and bits[0] == '1' else value}"
    return text
