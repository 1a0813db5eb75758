"""Plots with a row for every name: stacked bars, ratios on a logarithmic axis."""

from dataclasses import dataclass

from markupsafe import Markup

from .plots import (
    COLOURS,
    LETTER,
    Scale,
    axis_below,
    box,
    drawing,
    line,
    mark,
    round_ends,
    shortened,
    symbol,
    words,
)

BREAKS = 520  # below this width a row's name stands above it
FOOT = 44
MOST = 40  # rows that are drawn; a table beside the plot has them all


@dataclass(frozen=True)
class Bar:
    """One row: its name, its parts (value, what a reader sees), and what is written at its end."""

    name: str
    parts: tuple[tuple[float, str], ...]
    end: str = ""

    @property
    def total(self) -> float:
        """How long it is."""
        return sum(value for value, _ in self.parts)


@dataclass(frozen=True)
class Bars:
    """Stacked horizontal bars from zero, on an axis up to `most` at least.

    The parts of all rows are in one order.
    """

    label: str
    x_name: str
    rows: tuple[Bar, ...]
    most: float = 0.0


@dataclass(frozen=True)
class Ratios:
    """Rows of (series index, value, what a reader sees) on a logarithmic axis.

    `sides` say what lies left and right of 1, where values are ratios; without them no line is drawn.
    """

    label: str
    x_name: str
    rows: tuple[tuple[str, tuple[tuple[int, float, str], ...]], ...]
    sides: tuple[str, str] | None = None


def bars(plot: Bars, width: int) -> Markup:
    """Stacked bars, one row a name."""
    rows = _Rows.of([row.name for row in plot.rows], width, 66)
    x = Scale(
        *round_ends([plot.most, *(row.total for row in plot.rows)], 0.0), rows.left, rows.right
    )
    parts = axis_below(x, rows.bottom, plot.x_name, rows.top, width)
    for index, row in enumerate(plot.rows):
        y, at = rows.y(index), 0.0
        parts.append(rows.name(index))
        for colour, (value, title) in enumerate(row.parts):
            if value > 0:
                bar = box(
                    x(at), y - 8, max(x(at + value) - x(at), 0.6), 16, f"bar c{colour % COLOURS}"
                )
                parts.append(mark(title, bar))
            at += value
        parts.append(words(x(at) + 6, y + 4, row.end, "amount"))
    return drawing(width, rows.bottom + FOOT, plot.label, parts)


def ratios(plot: Ratios, width: int) -> Markup:
    """Signs on a logarithmic axis: left of 1 is less, right of it more."""
    found = [ratio for _, signs in plot.rows for _, ratio, _ in signs if ratio > 0]
    rows = _Rows.of([name for name, _ in plot.rows], width, 16, top=24)
    found += [0.5, 2.0] if plot.sides else []
    x = Scale(*round_ends(found, log=True), rows.left + 8, rows.right - 8, log=True)
    parts = axis_below(x, rows.bottom, plot.x_name, rows.top, width)
    if plot.sides:
        parts += _sides(x, rows, plot.sides)
    for index, (_, signs) in enumerate(plot.rows):
        y = rows.y(index)
        parts.append(rows.name(index))
        places = [x(ratio) for _, ratio, _ in signs if ratio > 0]
        if len(places) > 1:
            parts.append(line(min(places), y, max(places), y, "span"))
        for series, ratio, title in signs:
            if ratio > 0:
                area = box(x(ratio) - 9, y - 9, 18, 18, "area")
                parts.append(mark(title, area, symbol(x(ratio), y, series)))
    return drawing(width, rows.bottom + FOOT, plot.label, parts)


def _sides(x: Scale, rows: "_Rows", sides: tuple[str, str]) -> list[Markup]:
    """The line at 1, and what lies left and right of it."""
    return [
        box(x.start, rows.top, x(1) - x.start, rows.bottom - rows.top, "less"),
        line(x(1), rows.top - 6, x(1), rows.bottom, "one"),
        words(x(1) - 8, rows.top - 10, f"← {sides[0]}", "note end"),
        words(x(1) + 8, rows.top - 10, f"{sides[1]} →", "note"),
    ]


@dataclass(frozen=True)
class _Rows:
    """Where rows stand: names at the left, or above where it is narrow."""

    names: tuple[str, ...]
    left: float
    right: float
    top: float
    above: bool

    @classmethod
    def of(cls, names: list[str], width: int, margin: float, top: float = 4) -> "_Rows":
        above = width < BREAKS
        room = min(max((len(name) for name in names), default=0) * LETTER + 14, width * 0.34)
        return cls(tuple(names), 6 if above else room, width - margin, top, above)

    @property
    def height(self) -> int:
        return 42 if self.above else 26

    @property
    def bottom(self) -> float:
        return self.top + self.height * len(self.names) + 4

    def y(self, index: int) -> float:
        return self.top + self.height * index + (29 if self.above else 15)

    def name(self, index: int) -> Markup:
        name, y = self.names[index], self.y(index)
        if self.above:
            return words(self.left, y - 14, shortened(name, self.right), "row")
        short = shortened(name, self.left - 12)
        text = words(self.left - 8, y + 4, short, "row end")
        return text if short == name else mark(name, text)
