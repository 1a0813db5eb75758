"""Plots of robustness: accuracy over eps, with intervals, and over the steps of an attack."""

from collections.abc import Mapping

from ... import formats
from ...blocks import Block, Figure, Group
from ...plots_curves import Curves, Series, curves
from ...robust import eps_text
from ...shapes import Plain
from .words import largest, same_eps, share

_WORST = "worst case"  # the line of that name in an evaluation's curves
_GATES = "(gates)"  # ends the names of lines that gates measured, on their own samples
_LEVELS = 255  # of an 8-bit pixel: the unit of eps where every pixel is bounded
_AXES = {"linf": "eps, in 1/255 of the range of inputs"}


def over_eps(part: Plain, twin: Plain | None) -> list[Block]:
    """Accuracy against eps, after every attack and in the worst case, the float twin's beside."""
    lines = part["curves"]["accuracy_vs_eps"]
    series = [
        Series(f"after {name}", _points(part, f"after {name}", points))
        for name, points in lines.items()
        if name != _WORST and not name.endswith(_GATES)
    ]
    if twin is not None:
        series.append(_worst(twin, "worst case, float twin"))
    series.append(_worst(part, _WORST))
    found = tuple(line for line in series if line.points)
    label = "Accuracy against eps"
    plot = Curves(label, _axis(part), "per cent of samples", found, measured=True, low=0, high=100)
    reading = (
        "Each line is what is left after an attack and all before it; none is ever above one before. "
        "Upright strokes: 95 % intervals."
    )
    keys = tuple(line.name for line in found)
    return [Figure(label, lambda width: curves(plot, width), reading, keys)]


def networks_over_eps(parts: Mapping[str, Plain]) -> Figure:
    """The worst case of several networks, by name, against eps."""
    found = tuple(
        line for line in (_worst(part, name) for name, part in parts.items()) if line.points
    )
    label = "Worst case against eps"
    axis = _axis(next(iter(parts.values())))
    plot = Curves(label, axis, "per cent of samples", found, measured=True, low=0, high=100)
    keys = tuple(line.name for line in found)
    reading = "Upright strokes: 95 % intervals."
    return Figure(label, lambda width: curves(plot, width), reading, keys)


def whole_range(part: Plain) -> list[Block]:
    """Gates attack anew at eps up to the whole range, where nothing may be left."""
    lines = {n: p for n, p in part["curves"]["accuracy_vs_eps"].items() if n.endswith(_GATES)}
    series = tuple(
        Series(name, _points(part, name, points)) for name, points in lines.items() if points
    )
    if not series:
        return []
    label = "Accuracy up to the whole range of inputs"
    plot = Curves(label, _axis(part), "per cent of samples", series, measured=True, low=0, high=100)
    reading = (
        "On the gates' samples, each point attacked by itself. A line that rises, or that does not reach "
        "zero, shows an attack that fails."
    )
    return [Figure(label, lambda width: curves(plot, width), reading)]


def convergence(part: Plain) -> list[Block]:
    """Accuracy and loss over the steps of the attack, at the largest eps."""
    last = largest(part)
    eps = "" if last is None else f" at eps {eps_text(last['eps'])}"
    reading = f"On the gates' samples{eps}. Level at the end: more steps would find no more."
    figures = [
        _over_steps(part["curves"]["accuracy_vs_steps"], "Accuracy over steps", "per cent left"),
        _over_steps(part["curves"]["loss_vs_steps"], "Loss over steps", "mean cross-entropy"),
    ]
    drawn = tuple(_half(plot, reading) for plot in figures if plot.series)
    return [Group(drawn)] if drawn else []


def _half(plot: Curves, reading: str) -> Figure:
    keys = tuple(series.name for series in plot.series)
    return Figure(plot.label, lambda width: curves(plot, width), reading, keys, half=True)


def _over_steps(lines: Plain, label: str, y_name: str) -> Curves:
    series = tuple(
        Series(name, tuple((k, v, f"{name}, {k:g} steps: {_value(v, y_name)}") for k, v in points))
        for name, points in lines.items()
        if points
    )
    ends = (0.0, 100.0) if y_name.startswith("per cent") else (None, None)
    return Curves(
        label,
        "steps of the attack",
        y_name,
        series,
        doubling=True,
        measured=True,
        low=ends[0],
        high=ends[1],
    )


def _value(value: float, y_name: str) -> str:
    return formats.percent(value) if y_name.startswith("per cent") else formats.significant(value)


def _axis(part: Plain) -> str:
    return _AXES.get(part["norm"], "eps, inputs being 0 to 1")


def _at(part: Plain, eps: float) -> float:
    """Where an eps stands on the axis."""
    return float(eps) * (_LEVELS if part["norm"] in _AXES else 1)


def _points(part: Plain, name: str, points: Plain) -> tuple[tuple[float, float, str], ...]:
    return tuple(
        (_at(part, eps), value, f"{name}, eps {eps_text(eps)}: {formats.percent(value)}")
        for eps, value in points
    )


def _worst(part: Plain, name: str) -> Series:
    """The worst case, with intervals where its eps was attacked; clean accuracy at eps 0."""
    points, spans = [], []
    for eps, value in part["curves"]["accuracy_vs_eps"].get(_WORST, ()):
        row, clean = same_eps(part, eps), part["clean"]
        low, high = row["ci95"] if row is not None else (clean["low"], clean["high"])
        known, at = row is not None or eps == 0, _at(part, eps)
        text = share(value, low, high) if known else formats.percent(value)
        what = "without attack" if eps == 0 else f"eps {eps_text(eps)}"
        points.append((at, value, f"{name}, {what}: {text}"))
        if known:
            spans.append((at, low, high))
    return Series(name, tuple(points), tuple(spans))
