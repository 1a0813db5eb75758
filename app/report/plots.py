"""What all plots are drawn with: SVG elements whose texts are escaped, scales, ticks, axes.

A plot is a function of its width, so that a page can hold one drawing for wide and one for narrow
screens with letters of one size. Colours are classes (``c0`` to ``c5``), which the page's style sheet
fills, light and dark. A mark is a group with a ``<title>``: what a reader sees who hovers over it.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from . import formats

LETTER = 7.0  # mean width of a letter, in pixels, at the size of labels
COLOURS = 6


def drawing(width: float, height: float, label: str, parts: Iterable[Markup]) -> Markup:
    """A whole SVG picture; `label` is what a screen reader says of it."""
    start = Markup(
        '<svg class="plot" role="img" tabindex="0" aria-label="{2}" viewBox="0 0 {0:.0f} {1:.0f}" '
        'width="{0:.0f}" height="{1:.0f}">'
    )
    body = Markup("").join(parts)
    return start.format(width, height, label) + body + Markup("</svg>")


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    """A straight line."""
    form = '<line class="{4}" x1="{0:.1f}" y1="{1:.1f}" x2="{2:.1f}" y2="{3:.1f}"/>'
    return Markup(form).format(x1, y1, x2, y2, style)


def path(points: Sequence[tuple[float, float]], style: str) -> Markup:
    """A line through points."""
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return Markup('<polyline class="{}" points="{}"/>').format(style, places)


def box(x: float, y: float, width: float, height: float, style: str) -> Markup:
    """A rectangle."""
    form = '<rect class="{4}" x="{0:.1f}" y="{1:.1f}" width="{2:.1f}" height="{3:.1f}"/>'
    return Markup(form).format(x, y, max(width, 0), max(height, 0), style)


def words(x: float, y: float, text: str, style: str = "") -> Markup:
    """A text; the style says where its anchor is (``end``, ``middle``)."""
    return Markup('<text class="{3}" x="{0:.1f}" y="{1:.1f}">{2}</text>').format(x, y, text, style)


def mark(title: str, *parts: Markup) -> Markup:
    """What shows `title` when a reader points at it."""
    return Markup('<g class="mark"><title>{}</title>{}</g>').format(title, Markup("").join(parts))


def symbol(x: float, y: float, index: int, size: float = 4.5) -> Markup:
    """The sign of a series: its shape tells it apart where colours do not."""
    shapes = (
        "M{l} {m}a{s} {s} 0 1 0 {d} 0a{s} {s} 0 1 0 -{d} 0z",
        "M{l} {t}h{d}v{d}h-{d}z",
        "M{x} {t}L{r} {b}H{l}z",
        "M{x} {u}L{v} {m}L{x} {w}L{z} {m}z",
        "M{l} {t}H{r}L{x} {b}z",
        "M{l} {t}L{r} {b}M{r} {t}L{l} {b}",
    )
    wide = size * 1.25
    place = {
        "x": x, "m": y, "s": size, "d": 2 * size, "l": x - size, "r": x + size, "t": y - size,
        "b": y + size, "u": y - wide, "w": y + wide, "v": x + wide, "z": x - wide,
    }  # fmt: skip
    form = _turned(index)
    outline = shapes[form].format(**{k: f"{v:.1f}" for k, v in place.items()})
    style = f"sign c{index % COLOURS}" + (f" open l{index % COLOURS}" if form == 5 else "")
    return Markup('<path class="{}" d="{}"/>').format(style, outline)


def stroke(index: int) -> str:
    """The class of a series' line: its colour and its dashes."""
    return f"curve l{index % COLOURS} d{_turned(index)}"


def _turned(index: int) -> int:
    """A second number that differs where colours repeat: 36 series can be told apart."""
    return (index + index // COLOURS) % COLOURS


def shortened(text: str, room: float) -> str:
    """The text, or as much of its end as fits: names of one network differ at the end."""
    letters = max(int(room / LETTER), 3)
    return text if len(text) <= letters else "…" + text[-(letters - 1) :]


@dataclass(frozen=True)
class Scale:
    """From values `low..high` to pixels `start..end`, by value or by logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = self.low, self.high, value
        if self.log:
            low, high, at = (math.log(max(v, 1e-300)) for v in (low, high, value))
        if high == low:
            return (self.start + self.end) / 2
        return self.start + (self.end - self.start) * (at - low) / (high - low)

    def ticks(self, wanted: int = 5) -> list[float]:
        """Round values within the ends, about so many."""
        return _decades(self, wanted) if self.log else _even(self, wanted)


def _even(scale: Scale, wanted: int) -> list[float]:
    span = scale.high - scale.low
    if span <= 0:
        return [scale.low]
    rough = span / wanted
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * m for m in (1, 2, 2.5, 5, 10) if size * m >= rough * 0.999)
    first = math.ceil(scale.low / step - 1e-9)
    last = math.floor(scale.high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def _decades(scale: Scale, wanted: int) -> list[float]:
    first, last = math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high))
    between = (1, 2, 5) if last - first <= 2 else (1,)
    skip = max(1, (last - first) // max(wanted, 1))
    found = [10.0**e * m for e in range(first, last + 1, skip) for m in between]
    return [v for v in found if scale.low * 0.999 <= v <= scale.high * 1.001]


def widened(
    values: Sequence[float], low: float | None = None, *, log: bool = False
) -> tuple[float, float]:
    """Ends for a scale that holds all values with some air; `low` fixes the lower one."""
    bottom, top = (min(values), max(values)) if values else (0.1, 1.0)
    if log:
        return bottom / 1.15, top * 1.15
    air = (top - bottom) * 0.06 or abs(top) * 0.05 or 0.5
    return (bottom - air if low is None else low), top + air


def axis_below(scale: Scale, y: float, title: str, top: float) -> list[Markup]:
    """Vertical grid lines from `top`, with their values and the axis' name below `y`."""
    parts = [line(scale(v), top, scale(v), y, "grid") for v in scale.ticks()]
    parts += [words(scale(v), y + 16, formats.tick(v), "tick middle") for v in scale.ticks()]
    parts.append(line(scale.start, y, scale.end, y, "axis"))
    parts.append(words((scale.start + scale.end) / 2, y + 34, title, "name middle"))
    return parts


def axis_left(scale: Scale, x: float, right: float) -> list[Markup]:
    """Horizontal grid lines to `right`, with their values left of `x`."""
    parts = [line(x, scale(v), right, scale(v), "grid") for v in scale.ticks()]
    parts += [words(x - 6, scale(v) + 4, formats.tick(v), "tick end") for v in scale.ticks()]
    return parts


# How the key of a plot shows a series, in 22 by 12 pixels.
SAMPLES: Mapping[str, Callable[[int], Markup]] = {
    "sign": lambda index: symbol(11, 6, index),
    "line": lambda index: line(0, 6, 22, 6, stroke(index)),
    "bar": lambda index: box(4, 1, 14, 10, f"bar c{index % COLOURS}"),
}
