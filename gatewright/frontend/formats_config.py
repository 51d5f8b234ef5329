"""The ``formats`` argument: one cast for everything, or rules by name, by regex, by type, and a default.

A rule gives casts to roles: ``input`` (operands that stream), ``weight`` (constant operands), ``bias``,
``output`` (the result) and ``accumulator`` (the sums of block formats' products). For each role of a node the
first of these decides: a ``name`` rule (shell pattern on the module path, or on the value's name), a ``regex``
rule (on the same, whole), a ``type`` rule (operator name), the ``default``. Of several
matching rules of one kind the last one written wins.
"""

from __future__ import annotations

import fnmatch
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from gatewright.diagnostics import Collector, Diagnostic, GatewrightError, diagnostic, error, nearest
from gatewright.ir.formats import CastSpec, Real, parse_cast
from gatewright.ir.graph import Graph, Node
from gatewright.ir.ops.cast import Cast
from gatewright.ir.ops.constant import Constant
from gatewright.ir.types import Value

ROLES = ("input", "weight", "bias", "output", "accumulator")
KINDS = ("name", "regex", "type")
SECTIONS = ("default", *KINDS)

FormatsArgument = str | Path | Mapping[str, Any] | CastSpec | None
"""A cast name, a TOML file, a dictionary like that file's content, or None: the model says it itself."""


@dataclass(frozen=True, slots=True)
class Rule:
    """The casts by role for the nodes that ``pattern`` selects; ``kind`` is one of KINDS."""

    kind: str
    pattern: str
    casts: Mapping[str, CastSpec]

    def selects(self, operator: str, names: Iterable[str]) -> bool:
        """Whether the rule is for a node of that operator and those names."""
        if self.kind == "type":
            return self.pattern.lower() == operator
        if self.kind == "name":
            return any(fnmatch.fnmatchcase(name, self.pattern) for name in names)
        return any(re.fullmatch(self.pattern, name) for name in names)


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules of one ``formats`` argument."""

    default: Mapping[str, CastSpec]
    rules: tuple[Rule, ...] = ()

    def find(self, role: str, operator: str, names: Iterable[str]) -> CastSpec | None:
        """The cast for a role of a node, or None where no rule gives one."""
        listed = [name for name in names if name]
        for kind in KINDS:
            for rule in reversed(self.rules):
                if rule.kind == kind and role in rule.casts and rule.selects(operator, listed):
                    return rule.casts[role]
        return self.default.get(role)

    def for_node(self, role: str, node: Node) -> CastSpec | None:
        """The cast for a role of ``node``."""
        return self.find(role, node.op.name, names_of(node.output))

    def for_input(self, value: Value) -> CastSpec | None:
        """The cast that a rule by name or regex gives to the model's input itself."""
        return self.by_name().find("input", "", (value.name,))

    def by_name(self) -> Rules:
        """The rules by name and regex alone."""
        return Rules({}, tuple(rule for rule in self.rules if rule.kind != "type"))


def names_of(value: Value) -> tuple[str, ...]:
    """What patterns are matched against: the module path and the value's own name."""
    return tuple(dict.fromkeys(name for name in (value.location.module, value.name) if name))


def read_formats(formats: str | Path | Mapping[str, Any] | CastSpec) -> Rules:
    """The rules of a ``formats`` argument; raises with all that is wrong in it (GW02xx)."""
    if isinstance(formats, CastSpec):
        return uniform(formats)
    if isinstance(formats, Path) or (isinstance(formats, str) and formats.endswith(".toml")):
        return _read_file(Path(formats))
    if isinstance(formats, str):
        return uniform(read_cast(formats))
    if not isinstance(formats, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise error(
            "GW0224",
            f"formats is {formats!r}, a {type(formats).__name__}",
            help='give one cast such as "fixed<8,4>", a dictionary, or the path of a TOML file',
        )
    problems = Collector()
    rules = _read_sections(formats, problems)
    problems.raise_if_any()
    return rules


def uniform(spec: CastSpec) -> Rules:
    """One cast for every operand; results stay exact."""
    return Rules({role: spec for role in ROLES if role not in ("output", "accumulator")})


def read_cast(text: str) -> CastSpec:
    """A role's value; ``float32`` and ``real`` mean that the operand is left as it is, in software."""
    if text.strip().lower() in ("float32", "real"):
        return CastSpec(Real())
    return parse_cast(text)


def _read_file(path: Path) -> Rules:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise error(
            "GW0222",
            f"the formats file {path} cannot be read: {problem.strerror}",
            help="pass the path of an existing TOML file",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise error(
            "GW0223",
            f"the formats file {path} is not valid TOML",
            note=str(problem),
            help='patterns with dots or brackets need quotes, as in [name."classifier.*"]',
        ) from None
    return read_formats(content)


def _read_sections(content: Mapping[str, Any], problems: Collector) -> Rules:
    default: Mapping[str, CastSpec] = {}
    rules: list[Rule] = []
    for section, body in content.items():
        if section == "default":
            default = _read_roles("[default]", body, problems)
        elif section in KINDS and isinstance(body, Mapping):
            for pattern, roles in cast(Mapping[str, Any], body).items():
                label = f"[{section}.{pattern}]"
                if section == "regex":
                    problem = _regex_problem(label, pattern)
                    if problem is not None:
                        problems.add(problem)
                        continue
                rules.append(Rule(section, pattern, _read_roles(label, roles, problems)))
        else:
            problems.add(_section_problem(section))
    return Rules(default, tuple(rules))


def _section_problem(section: str) -> Diagnostic:
    if section in KINDS:
        return diagnostic(
            "GW0224",
            f"formats section [{section}] must name what it is for",
            help=f'write [{section}."..."], or [default] for everything else',
        )
    if section in ROLES:
        return diagnostic(
            "GW0224",
            f'formats entry "{section}" stands outside a section',
            help=f'put it under "default": {{"default": {{"{section}": ...}}}}',
        )
    close = nearest(section, SECTIONS)
    return diagnostic(
        "GW0224",
        f"formats has no section [{section}]",
        note=f"sections: {', '.join(SECTIONS)}",
        help=f"did you mean [{close}]?" if close else 'for a layer write [name."..."]',
    )


def _regex_problem(label: str, pattern: str) -> Diagnostic | None:
    try:
        re.compile(pattern)
    except re.error as problem:
        return diagnostic("GW0225", f"{label} is not a regular expression", note=str(problem))
    return None


def _read_roles(label: str, body: Any, problems: Collector) -> dict[str, CastSpec]:
    if isinstance(body, str):
        return dict(uniform(_checked_cast(body, label, "", problems)).default)
    if not isinstance(body, Mapping):
        problems.add(
            diagnostic("GW0224", f"formats {label} must be a table of roles", note=f"roles: {', '.join(ROLES)}")
        )
        return {}
    casts: dict[str, CastSpec] = {}
    for role, value in cast(Mapping[str, Any], body).items():
        if role not in ROLES:
            close = nearest(role, ROLES)
            problems.add(
                diagnostic(
                    "GW0226",
                    f'formats {label} has no role "{role}"',
                    note=f"roles: {', '.join(ROLES)}",
                    help=f'did you mean "{close}"?' if close else "use one of these roles",
                )
            )
        else:
            casts[role] = _checked_cast(value, label, role, problems)
    return casts


def _checked_cast(value: Any, label: str, role: str, problems: Collector) -> CastSpec:
    """The cast that ``value`` names; where it is wrong, the problem is recorded with its place."""
    if isinstance(value, CastSpec):
        return value
    place = f"formats {label}" + (f" {role}" if role else "")
    if not isinstance(value, str):
        problems.add(diagnostic("GW0226", f"{place} is {value!r}", help='give a cast such as "fixed<8,4>"'))
        return CastSpec(Real())
    try:
        return read_cast(value)
    except GatewrightError as problem:
        for each in problem.diagnostics:
            problems.add(Diagnostic(each.code, f"{place}: {each.message}", None, each.notes, each.help))
        return CastSpec(Real())


def check_matches(rules: Rules, graph: Graph, problems: Collector) -> None:
    """Record every rule that selects no operator of the graph (GW0227), with the nearest name."""
    nodes = [node for node in graph.nodes if not isinstance(node.op, Constant | Cast)]
    known_types = sorted({node.op.name for node in nodes})
    known_names = sorted(
        {name for node in nodes for name in names_of(node.output)} | {each.name for each in graph.inputs}
    )
    for rule in rules.rules:
        if any(rule.selects(node.op.name, names_of(node.output)) for node in nodes):
            continue
        if rule.kind != "type" and any(rule.selects("", (each.name,)) for each in graph.inputs):
            continue
        known = known_types if rule.kind == "type" else known_names
        problems.add(_no_match(rule, known))


def _no_match(rule: Rule, known: list[str]) -> Diagnostic:
    bare = re.sub(r"[\\*?\[\]^$()|+]+", "", rule.pattern)
    close = nearest(bare.lower() if rule.kind == "type" else bare, known)
    shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    what = {"type": "operators", "name": "names", "regex": "names"}[rule.kind]
    return diagnostic(
        "GW0227",
        f"formats [{rule.kind}.{_quoted(rule)}] matches nothing in this model",
        note=f"{what} in this model: {shown}",
        help=f'did you mean "{close}"?' if close else "remove the entry, or correct its pattern",
    )


def _quoted(rule: Rule) -> str:
    if rule.kind == "type":
        return rule.pattern
    return f"'{rule.pattern}'" if rule.kind == "regex" else f'"{rule.pattern}"'
