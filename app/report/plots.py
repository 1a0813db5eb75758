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

LETTER = 7.7  # width of a digit in the widest usual typeface, in pixels, at the size of labels
COLOURS = 6
TICKS = 5  # of an axis, about
FLAT = 1e-9  # values that differ by less, of 1 or of themselves, are drawn as one


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

    def ticks(self) -> list[float]:
        """Round values within the ends, about `TICKS` of them."""
        return _decades(self, TICKS) if self.log else _even(self, TICKS)

    def named_ticks(self) -> list[tuple[float, str]]:
        """Where each tick stands, and what is written there: on even scales with equal decimals."""
        ticks = self.ticks()
        texts = [formats.tick(value) for value in ticks]
        places = 0 if self.log else max((_decimals(text) for text in texts), default=0)
        return [(self(value), formats.tick(value, places)) for value in ticks]


def _even(scale: Scale, wanted: int) -> list[float]:
    if scale.high <= scale.low:
        return [scale.low]
    step = _step(scale.high - scale.low, wanted)
    first = math.ceil(scale.low / step - 1e-9)
    last = math.floor(scale.high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def _decimals(text: str) -> int:
    return 0 if "e" in text else len(text.partition(".")[2])


def _step(span: float, wanted: int) -> float:
    """The round distance of about so many ticks over a span."""
    rough = span / wanted
    size = 10.0 ** math.floor(math.log10(rough))
    return next(size * m for m in (1, 2, 2.5, 5, 10) if size * m >= rough * 0.999)


def _decades(scale: Scale, wanted: int) -> list[float]:
    first, last = math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high))
    between = (1, 2, 5) if last - first <= 2 else (1,)
    skip = max(1, (last - first) // max(wanted, 1))
    found = [10.0**e * m for e in range(first, last + 1, skip) for m in between]
    return [v for v in found if scale.low * (1 - 1e-9) <= v <= scale.high * (1 + 1e-9)]


def round_ends(
    values: Iterable[float], low: float | None = None, *, log: bool = False
) -> tuple[float, float]:
    """Round ends for a scale that holds all values; `low` is one more that it must hold.

    Even scales end at ticks, so that nothing is drawn beyond the last one; logarithmic ones at 1, 2
    or 5 times a power of ten.
    """
    found = [*values, *([] if low is None else [low])] or [0.1, 1.0]
    bottom, top = min(found), max(found)
    if log:
        first, last = _round_factor(bottom, up=False), _round_factor(top, up=True)
        if first < last:
            return first, last
        return _round_factor(0.9 * first, up=False), _round_factor(1.1 * last, up=True)
    if top - bottom <= FLAT * max(abs(bottom), abs(top), 1.0):
        air = max(abs(top) * 0.01, 0.5 if abs(top) < FLAT else 0.0)
        bottom, top = (bottom, top + air) if bottom == low else (bottom - air, top)
    for _ in range(3):  # wider ends may ask for a wider step, at most a few times
        step = _step(top - bottom, TICKS)
        bottom = round(math.floor(bottom / step + 1e-9) * step, 12)
        top = round(math.ceil(top / step - 1e-9) * step, 12)
    return bottom, top


def _round_factor(value: float, *, up: bool) -> float:
    """1, 2 or 5 times a power of ten, no nearer to the middle than the value."""
    size = 10.0 ** math.floor(math.log10(value) + 1e-9)
    held = [size * m for m in (1, 2, 5, 10)]
    if up:
        return next(v for v in held if v >= value * (1 - 1e-9))
    return next(v for v in reversed(held) if v <= value * (1 + 1e-9))


def axis_below(scale: Scale, y: float, title: str, top: float, width: float) -> list[Markup]:
    """Vertical grid lines from `top`, with their values and the axis' name below `y`."""
    ticks = scale.named_ticks()
    parts = [line(x, top, x, y, "grid") for x, _ in ticks]
    parts += tick_words(ticks, y + 16, width)
    parts.append(line(scale.start, y, scale.end, y, "axis"))
    parts.append(words((scale.start + scale.end) / 2, y + 34, title, "name middle"))
    return parts


def tick_words(ticks: Iterable[tuple[float, str]], y: float, width: float) -> list[Markup]:
    """Values below an axis: in a drawing of that width none is cut off, and none touches another."""
    parts, free = list[Markup](), float("-inf")
    for x, text in ticks:
        half = len(text) * LETTER / 2
        middle = min(max(x, half), width - half)
        if middle - half >= free:
            parts.append(words(middle, y, text, "tick middle"))
            free = middle + half + LETTER / 2
    return parts


def axis_left(scale: Scale, x: float, right: float) -> list[Markup]:
    """Horizontal grid lines to `right`, with their values left of `x`; see `room_left`."""
    parts = [line(x, y, right, y, "grid") for y, _ in scale.named_ticks()]
    parts += [words(x - 6, y + 4, text, "tick end") for y, text in scale.named_ticks()]
    return parts


def room_left(low: float, high: float, *, log: bool = False) -> float:
    """How wide the values of a scale with these ends are, in pixels, with some air."""
    ticks = Scale(low, high, 0, 1, log).named_ticks()
    return 18 + LETTER * max((len(text) for _, text in ticks), default=0)


SPIKES = ("up", "down")  # the classes of spikes by their sign

# How the key of a plot shows a series, in 22 by 12 pixels.
SAMPLES: Mapping[str, Callable[[int], Markup]] = {
    "sign": lambda index: symbol(11, 6, index),
    "line": lambda index: line(0, 6, 22, 6, stroke(index)),
    "bar": lambda index: box(4, 1, 14, 10, f"bar c{index % COLOURS}"),
    "spike": lambda index: box(4, 4, 14, 4, f"spike {SPIKES[index]}"),
}
