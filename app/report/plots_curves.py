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
    room_left,
    round_ends,
    stroke,
    symbol,
    tick_words,
    words,
)

HEIGHT = 258
AIR = 8  # between the ends of the x axis and the first and last points


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
    logarithm, `log` spaces y so; `measured` puts ticks where points are, else round values; `signs`
    is whether points are drawn. `low` is a value that y must hold, `high` its most.
    """

    label: str
    x_name: str
    y_name: str
    series: tuple[Series, ...]
    levels: tuple[tuple[str, float], ...] = ()
    marks: tuple[tuple[str, float], ...] = ()
    doubling: bool = False
    measured: bool = False
    signs: bool = True
    low: float | None = None
    high: float | None = None
    log: bool = False


def curves(plot: Curves, width: int) -> Markup:
    """Lines over x."""
    x, y = _scales(plot, width)
    left, right, bottom, top = x.start - AIR, x.end + AIR, y.start, y.end
    parts = [words(6, 12, plot.y_name, "name"), *axis_left(y, left, right)]
    parts += _axis(plot, x, bottom, width)
    for name, value in plot.marks:
        parts.append(mark(name, line(x(value), top - 8, x(value), bottom, "limit")))
        side = "end" if x(value) > (left + right) / 2 else ""
        parts.append(words(x(value) + (4 if side else -4), top - 12, name, f"note {side}"))
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


def _scales(plot: Curves, width: int) -> tuple[Scale, Scale]:
    across = [p[0] for s in plot.series for p in s.points] + [v for _, v in plot.marks]
    up = [p[1] for s in plot.series for p in s.points] + [v for _, v in plot.levels]
    up += [v for s in plot.series for span in s.spans for v in span[1:]]
    low, high = round_ends(up, plot.low, log=plot.log)
    high = high if plot.high is None else min(high, plot.high)
    doubling = plot.doubling and min(across, default=0.0) > 0
    if plot.measured and across:
        first, last = min(across), max(across)
    else:
        first, last = round_ends(across, log=doubling)
    left = room_left(low, high, log=plot.log)
    x = Scale(first, last, left + AIR, width - 14 - AIR, log=doubling)
    return x, Scale(low, high, HEIGHT - 44, 44, plot.log)


def _axis(plot: Curves, x: Scale, bottom: float, width: int) -> list[Markup]:
    """The x axis, with its ticks where points were measured or where values are round."""
    found = sorted({p[0] for s in plot.series for p in s.points})
    ticks = [(x(v), formats.tick(v)) for v in found] if plot.measured else x.named_ticks()
    parts = [line(x.start - AIR, bottom, x.end + AIR, bottom, "axis")]
    parts += [line(place, bottom, place, bottom + 4, "axis") for place, _ in ticks]
    parts += tick_words(ticks, bottom + 17, width)
    parts.append(words((x.start + x.end) / 2, bottom + 36, plot.x_name, "name middle"))
    return parts


def _point(x: float, y: float, title: str, index: int, plot: Curves) -> Markup:
    area = Markup('<circle class="area" cx="{:.1f}" cy="{:.1f}" r="11"/>').format(x, y)
    return mark(title, area, symbol(x, y, index)) if plot.signs else mark(title, area)


def _span(x: float, low: float, high: float, style: str) -> list[Markup]:
    """A vertical line with a short stroke at each end."""
    ends = [line(x - 4, y, x + 4, y, style) for y in (low, high)]
    return [line(x, low, x, high, style), *ends]
