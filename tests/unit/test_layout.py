"""The repository's shape: links into the package, layers that do not leak, types that are really checked."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "gatewright"
LINKS = ("frontend", "ir", "backends", "hdl_templates", "kernels", "sim")
# The planted file's place in the copy, so that every linked folder is shown to be checked.
PLANTED = "planted_mistake.py"


def imported_modules(path: Path) -> Iterator[tuple[str, int]]:
    """Every absolute module name that a file imports, wherever in it, with its line."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module, node.lineno


def is_within(name: str, allowed: tuple[str, ...]) -> bool:
    return any(name == each or name.startswith(each + ".") for each in allowed)


@pytest.mark.parametrize("name", LINKS)
def test_link_leads_into_the_package(name: str) -> None:
    link = ROOT / name
    assert link.is_symlink()
    assert str(link.readlink()) == f"gatewright/{name}", "links are relative, so that a clone can move"
    assert link.resolve() == PACKAGE / name
    assert link.is_dir(), "a link must not dangle"


def test_kernels_is_no_top_level_package() -> None:
    """A `kernels` package at the root would shadow Hugging Face's for programs started there."""
    assert not (PACKAGE / "kernels" / "__init__.py").exists()


def test_ir_stands_on_the_standard_library_and_numpy() -> None:
    """And on mpmath, arithmetic in pure Python, for the values of function tables."""
    allowed = (*sys.stdlib_module_names, "numpy", "mpmath", "gatewright.ir", "gatewright.diagnostics")
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sorted((PACKAGE / "ir").rglob("*.py"))
        for name, line in imported_modules(path)
        if not is_within(name, allowed)
    ]
    assert not wrong, "the IR stands alone:\n" + "\n".join(wrong)


def test_diagnostics_import_nothing_of_the_package() -> None:
    names = [name for name, _ in imported_modules(PACKAGE / "diagnostics.py")]
    assert not [name for name in names if name.startswith("gatewright")]


def test_files_are_of_readable_length() -> None:
    """600 lines at the most, for Python and SystemVerilog alike."""
    files = [path for ending in ("*.py", "*.sv", "*.j2") for path in PACKAGE.rglob(ending)]
    lengths = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in files}
    assert not {path: length for path, length in lengths.items() if length > 600}


def test_every_package_folder_is_packaged() -> None:
    """A folder with Python modules has an `__init__.py`, but for kernels (see above)."""
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    bare = [folder for folder in folders if not (folder / "__init__.py").exists()]
    assert [folder for folder in bare if PACKAGE / "kernels" not in (folder, *folder.parents)] == []


def test_templates_are_package_data() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["*"]
    endings = {path.suffix for path in PACKAGE.rglob("*") if path.is_file() and path.parent.name != "__pycache__"}
    assert endings - {".py"} <= {"." + pattern.rsplit(".", 1)[-1] for pattern in [*patterns, "*.typed"]}


def test_planted_type_errors_are_reported(tmp_path: Path) -> None:
    """A strict type error in any linked folder of a copy is found by the repository's own settings."""
    copy = tmp_path / "copy"
    shutil.copytree(PACKAGE, copy / "gatewright", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    planted = [copy / "gatewright" / name / PLANTED for name in LINKS]
    for path in planted:
        path.write_text('def wrong(untyped) -> int:\n    return "text"\n')
    options = ["--outputjson", "--project", str(copy), "--pythonpath", sys.executable]
    command = [sys.executable, "-m", "pyright", *options]
    run = subprocess.run(command, check=False, capture_output=True, text=True, cwd=copy)
    assert run.returncode == 1, run.stdout + run.stderr
    rules: dict[str, set[str]] = {}
    for each in json.loads(run.stdout)["generalDiagnostics"]:
        rules.setdefault(each["file"], set()).add(each.get("rule", ""))
    for path in planted:
        assert "reportReturnType" in rules[str(path)], "types are not checked"
        assert "reportMissingParameterType" in rules[str(path)], "the check is not strict"
