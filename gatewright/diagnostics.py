"""Diagnostics: every error that a user can cause, rendered like a compiler's.

A diagnostic has a stable code (``GW0101``), a message, the place in the user's model, notes with
the arithmetic, and a help line with the exact change to make. A pass collects all that it finds
with a :class:`Collector` and raises once.

Code ranges: GW01 frontend, GW02 formats and casts, GW03 graph and passes, GW04 simulation,
GW05 GPU kernels, GW06 synthesis, GW07 schedule, GW08 generated hardware, GW09 command line and files.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Location:
    """Where in the user's model a value or an error comes from.

    ``module`` is the dotted path of the layer (``encoder.layer.0``), ``file`` and ``line`` the
    Python source, ``text`` that source line.
    """

    module: str = ""
    file: str = ""
    line: int = 0
    text: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.file else ""
        name = " ".join(self.module.split())  # a name may hold line ends, a comment may not
        module = f"`{name}`" if name else ""
        return " in ".join(part for part in (place, module) if part)


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding: ``code``, what happened, where, why (notes), what to do (help)."""

    code: str
    message: str
    location: Location | None = None
    notes: tuple[str, ...] = ()
    help: str = ""

    def render(self) -> str:
        """The diagnostic as text, one statement a line."""
        lines = [f"error[{self.code}]: {self.message}"]
        if self.location is not None and str(self.location):
            lines.append(f"  --> {self.location}")
            if self.location.text:
                lines.append(f"   | {self.location.text.strip()}")
        lines += [f"  = note: {_indented(note)}" for note in self.notes]
        if self.help:
            lines.append(f"  = help: {_indented(self.help)}")
        return "\n".join(lines)


def _indented(text: str) -> str:
    return text.replace("\n", "\n          ")


class GatewrightError(Exception):
    """Raised for everything that a user can cause; carries all diagnostics found in one pass."""

    def __init__(self, diagnostics: Diagnostic | Sequence[Diagnostic]) -> None:
        self.diagnostics: tuple[Diagnostic, ...] = (
            (diagnostics,) if isinstance(diagnostics, Diagnostic) else tuple(diagnostics)
        )
        super().__init__("\n\n".join(each.render() for each in self.diagnostics))

    @property
    def code(self) -> str:
        """The code of the first diagnostic."""
        return self.diagnostics[0].code


class MismatchError(GatewrightError):
    """The hardware differs from the golden model: names the first layer, sample and element."""


def diagnostic(
    code: str,
    message: str,
    *,
    location: Location | None = None,
    note: str | Iterable[str] = (),
    help: str = "",
) -> Diagnostic:
    """Build a diagnostic; ``note`` is one note or several."""
    notes = (note,) if isinstance(note, str) else tuple(note)
    return Diagnostic(code, message, location, notes, help)


def error(
    code: str,
    message: str,
    *,
    location: Location | None = None,
    note: str | Iterable[str] = (),
    help: str = "",
) -> GatewrightError:
    """A :class:`GatewrightError` with a single diagnostic, to be raised by the caller."""
    return GatewrightError(diagnostic(code, message, location=location, note=note, help=help))


@dataclass(slots=True)
class Collector:
    """Collects the diagnostics of one pass; :meth:`raise_if_any` raises them together."""

    diagnostics: list[Diagnostic] = field(default_factory=list[Diagnostic])

    def add(self, item: Diagnostic | GatewrightError) -> None:
        """Record a diagnostic, or all of an error's; repeated ones are kept once."""
        found = item.diagnostics if isinstance(item, GatewrightError) else (item,)
        self.diagnostics.extend(each for each in found if each not in self.diagnostics)

    def raise_if_any(self) -> None:
        """Raise all collected diagnostics as one :class:`GatewrightError`."""
        if self.diagnostics:
            raise GatewrightError(self.diagnostics)


def nearest(name: str, candidates: Iterable[str], likeness: float = 0.5) -> str:
    """The known name most like ``name``, or an empty string when none has that likeness (1: the same)."""
    close = difflib.get_close_matches(name, list(candidates), n=1, cutoff=likeness)
    return close[0] if close else ""
