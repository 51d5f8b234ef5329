"""The plots of docs/formats.md: bits an element against signal-to-noise ratio, as SVG, one for each kind of data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape

from gatewright.ir.formats import Block, Fixed, Format, Log, PowerOfTwo, ScaledSigns, SignificandFormat, parse_format

WIDTH, HEIGHT = 1040, 660
LEFT, RIGHT, TOP, BOTTOM = 58, 150, 64, 52
MOST_BITS = 9
LETTER, LINE = 5.9, 11.0
"""Width of a letter and height of a line of a label, in the units of the picture."""
FAMILIES = {
    "fixed point": ("#1f77b4", False),
    "minifloat": ("#d95f02", False),
    "power of two": ("#7570b3", False),
    "signs": ("#555555", False),
    "blocks of integers": ("#1f77b4", True),
    "blocks of minifloats, powers of two": ("#d95f02", True),
    "blocks with a scale that is no power of two": ("#1b9e77", True),
}
"""Colour of each family, and whether its marks are squares: scales are shared."""


@dataclass(frozen=True, slots=True)
class Point:
    """One format at its place in the picture."""

    name: str
    family: str
    x: float
    y: float


Box = tuple[float, float, float, float]


def family(form: Format) -> str:
    """The family of a format, as the legend calls it."""
    if isinstance(form, Block):
        if not isinstance(form.scale, PowerOfTwo) and form.scale.mantissa_bits > 2:
            return "blocks with a scale that is no power of two"
        return "blocks of integers" if isinstance(form.element, Fixed) else "blocks of minifloats, powers of two"
    if isinstance(form, ScaledSigns) or not isinstance(form, Fixed | SignificandFormat):
        return "signs"
    if isinstance(form, Fixed):
        return "fixed point"
    return "power of two" if isinstance(form, Log | PowerOfTwo) else "minifloat"


def plot(kind: str, bits: Mapping[str, float], figures: Mapping[str, float]) -> str:
    """The picture for one kind of data: ``bits`` an element and the ratio in dB, by the formats' names."""
    shown = {name: value for name, value in figures.items() if bits[name] <= MOST_BITS and value > 0}
    top = 10 * -(-max(shown.values()) // 10)
    points = [
        Point(name, family(parse_format(name)), _x(bits[name]), _y(value, top))
        for name, value in sorted(shown.items(), key=lambda item: (bits[item[0]], -item[1]))
    ]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *_axes(kind, int(top)),
        *_legend(),
        *_labels(points),
        *(_mark(point.x, point.y, point.family) for point in points),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _x(bits: float) -> float:
    return LEFT + bits / MOST_BITS * (WIDTH - LEFT - RIGHT)


def _y(ratio: float, top: float) -> float:
    return HEIGHT - BOTTOM - ratio / top * (HEIGHT - TOP - BOTTOM)


def _axes(kind: str, top: int) -> Iterator[str]:
    for value in range(0, top + 1, 10):
        y = _y(value, top)
        yield f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - 20}" y2="{y:.1f}" stroke="#ddd"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" font-size="12" text-anchor="end">{value}</text>'
    for size in range(MOST_BITS + 1):
        yield f'<line x1="{_x(size):.1f}" y1="{TOP}" x2="{_x(size):.1f}" y2="{HEIGHT - BOTTOM}" stroke="#f0f0f0"/>'
        yield f'<text x="{_x(size):.1f}" y="{HEIGHT - BOTTOM + 18}" font-size="12" text-anchor="middle">{size}</text>'
    middle = (TOP + HEIGHT - BOTTOM) / 2
    yield (
        f'<text x="{_x(MOST_BITS / 2):.1f}" y="{HEIGHT - 12}" font-size="13" text-anchor="middle">'
        "bits an element, shared scales included</text>"
    )
    yield (
        f'<text transform="translate(16 {middle:.1f}) rotate(-90)" font-size="13" text-anchor="middle">'
        f"signal-to-noise ratio, {kind}, dB</text>"
    )


def _legend() -> Iterator[str]:
    """Scalar families in the first line, those with shared scales in the second."""
    places = [LEFT + 110.0, LEFT + 110.0]
    for line, title in enumerate(("one code each", "shared scales")):
        yield f'<text x="{LEFT}" y="{20 + 18 * line}" font-size="12" font-weight="bold">{title}</text>'
    for name, (_, has_scales) in FAMILIES.items():
        line = int(has_scales)
        yield _mark(places[line], 16 + 18 * line, name)
        yield f'<text x="{places[line] + 9:.1f}" y="{20 + 18 * line}" font-size="12">{name}</text>'
        places[line] += 34 + 6.4 * len(name)


def _mark(x: float, y: float, name: str) -> str:
    colour, is_square = FAMILIES[name]
    if is_square:
        return f'<rect x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7" fill="{colour}"/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'


def _labels(points: list[Point]) -> Iterator[str]:
    """A name beside every mark, moved up or down, with a line to its mark, where it would cover something."""
    taken: list[Box] = [(point.x - 5, point.y - 5, point.x + 5, point.y + 5) for point in points]
    for point in points:
        box, anchor, x, y = next(
            found for found in _places(point) if not any(_overlap(found[0], other) for other in taken)
        )
        taken.append(box)
        colour = FAMILIES[point.family][0]
        if abs(y - point.y) > 4:
            end = x - 2 if anchor == "start" else x + 2
            yield (
                f'<line x1="{point.x:.1f}" y1="{point.y:.1f}" x2="{end:.1f}" y2="{y:.1f}" '
                f'stroke="{colour}" stroke-width="0.6"/>'
            )
        yield (
            f'<text x="{x:.1f}" y="{y + 3.3:.1f}" font-size="9.5" text-anchor="{anchor}" fill="{colour}">'
            f"{escape(point.name)}</text>"
        )


def _places(point: Point) -> Iterator[tuple[Box, str, float, float]]:
    """Boxes for a label, the nearest first: beside its mark, then above and below, ever farther."""
    size = LETTER * len(point.name)
    for step in range(60):
        for down in (step * 6.0,) if step == 0 else (-step * 6.0, step * 6.0):
            y, gap = point.y + down, 7 + min(step, 3) * 4
            if not TOP - 4 <= y <= HEIGHT - BOTTOM - 4:
                continue
            for anchor, x in (("start", point.x + gap), ("end", point.x - gap)):
                left = x if anchor == "start" else x - size
                if left > LEFT and left + size < WIDTH:
                    yield (left - 2, y - LINE / 2, left + size + 2, y + LINE / 2), anchor, x, y


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
