"""Plots of values over a number: lines with signs at their points, lines of reference."""

from dataclasses import dataclass

from markupsafe import Markup

from . import formats
from .plots import (
    COLOURS,
    Scale,
    axis_left,
    drawing,
    line,
    mark,
    path,
    stroke,
    symbol,
    widened,
    words,
)

HEIGHT = 250


@dataclass(frozen=True)
class Series:
    """Points (x, y, what a reader sees who points at it) under one name.

    `spans` are (x, low, high): how far up and down from its point the truth may lie.
    """

    name: str
    points: tuple[tuple[float, float, str], ...]
    spans: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True)
class Curves:
    """What is drawn.

    `levels` are named horizontal lines, `marks` named vertical ones; `doubling` spaces x by its
    logarithm, `log` spaces y so; `signs` is whether points are drawn.
    """

    label: str
    x_name: str
    y_name: str
    series: tuple[Series, ...]
    levels: tuple[tuple[str, float], ...] = ()
    marks: tuple[tuple[str, float], ...] = ()
    doubling: bool = False
    signs: bool = True
    low: float | None = None
    high: float | None = None
    log: bool = False


def curves(plot: Curves, width: int) -> Markup:
    """Lines over x."""
    left, right, top, bottom = 46, width - 14, 36, HEIGHT - 44
    x, y = _scales(plot, (left, right, top, bottom))
    parts = [words(left - 40, 12, plot.y_name, "name"), *axis_left(y, left, right)]
    parts += _steps(plot, x, bottom)
    for name, value in plot.marks:
        parts.append(mark(name, line(x(value), top, x(value), bottom, "limit")))
        side = "end" if x(value) > (left + right) / 2 else ""
        parts.append(words(x(value) + (4 if side else -4), top - 5, name, f"note {side}"))
    for name, value in plot.levels:
        parts.append(mark(name, line(left, y(value), right, y(value), "level")))
    for index, series in enumerate(plot.series):
        places = [(x(a), y(b)) for a, b, _ in series.points]
        parts.append(path(places, stroke(index)))
        for at, low, high in series.spans:
            parts += _span(x(at), y(low), y(high), f"error l{index % COLOURS}")
    for index, series in enumerate(plot.series):
        parts += [_point(x(a), y(b), title, index, plot) for a, b, title in series.points]
    return drawing(width, HEIGHT, plot.label, parts)


def _scales(plot: Curves, ends: tuple[int, int, int, int]) -> tuple[Scale, Scale]:
    left, right, top, bottom = ends
    across = [p[0] for s in plot.series for p in s.points] + [v for _, v in plot.marks]
    up = [p[1] for s in plot.series for p in s.points] + [v for _, v in plot.levels]
    up += [v for s in plot.series for span in s.spans for v in span[1:]]
    low, high = widened(up, plot.low, log=plot.log)
    if plot.high is not None:
        high = min(high, plot.high)
    first, last = (min(across), max(across)) if across else (0.0, 1.0)
    x = Scale(first, last, left + 8, right - 8, log=plot.doubling and first > 0)
    return x, Scale(low, high, bottom, top, plot.log)


def _steps(plot: Curves, x: Scale, bottom: float) -> list[Markup]:
    """The x axis; where it doubles, its ticks are the measured points."""
    found = sorted({p[0] for s in plot.series for p in s.points})
    values = found if plot.doubling and len(found) <= 9 else x.ticks()
    parts = [line(x.start - 8, bottom, x.end + 8, bottom, "axis")]
    free = float("-inf")
    for value in values:
        parts.append(line(x(value), bottom, x(value), bottom + 4, "axis"))
        if x(value) - free >= 18:  # letters of neighbours must not touch
            parts.append(words(x(value), bottom + 17, formats.tick(value), "tick middle"))
            free = x(value)
    parts.append(words((x.start + x.end) / 2, bottom + 36, plot.x_name, "name middle"))
    return parts


def _point(x: float, y: float, title: str, index: int, plot: Curves) -> Markup:
    area = Markup('<circle class="area" cx="{:.1f}" cy="{:.1f}" r="11"/>').format(x, y)
    return mark(title, area, symbol(x, y, index)) if plot.signs else mark(title, area)


def _span(x: float, low: float, high: float, style: str) -> list[Markup]:
    """A vertical line with a short stroke at each end."""
    ends = [line(x - 4, y, x + 4, y, style) for y in (low, high)]
    return [line(x, low, x, high, style), *ends]
