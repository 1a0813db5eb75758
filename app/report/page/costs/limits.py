"""Part of the section on energy: break-even spike rates, whether a chip holds it, price constants."""

import math

from ... import formats
from ...blocks import Block, Figure, Fold, Prose, Table
from ...plots_curves import Curves, Series, curves
from ...shapes import NUMBER, Plain
from .forms import called

_FURTHEST, _SAMPLES = 4.0, 24  # multiples of the measured rate that are drawn, in so many points


def break_even(part: Plain) -> list[Block]:
    """At which spike rate the spiking network would cost what the baseline does."""
    found = part["break_even"]
    if not found:
        return []
    rate = part["counts"]["spike_rate"]
    drawn = [point for point in found if point["baseline_uj"] > 0]
    figures = [_figure(drawn, rate)] if rate and drawn else []
    return [*figures, _table(found, part)]


def _figure(found: list[Plain], rate: float) -> Figure:
    series = tuple(Series(point["model"], _line(point, rate)) for point in found)
    plot = Curves(
        "Energy over the baseline's, by spike rate", "spikes per neuron and step",
        "energy ÷ baseline", series, (("the baseline", 1.0),), (("measured", rate),),
        signs=False, low=None, log=True,
    )  # fmt: skip
    reading = (
        f"Below the dashed line the spiking network takes less than the baseline "
        f"({called(found[0]['against'])}). All spike counts are scaled together; each line runs straight "
        "from no spike through the measured ones."
    )
    keys = tuple(point["model"] for point in found)
    return Figure(
        "Energy by spike rate", lambda width: curves(plot, width), reading, keys, keyed_by="line"
    )


def _line(point: Plain, rate: float) -> tuple[tuple[float, float, str], ...]:
    """E(a) = idle + a * per_scale, over the baseline, at a times the measured rate."""
    places = []
    for index in range(_SAMPLES + 1):
        scale = _FURTHEST * (index / _SAMPLES) ** 2  # closer where few spikes change much
        ratio = (point["idle_uj"] + scale * point["per_scale_uj"]) / point["baseline_uj"]
        title = (
            f"{point['model']}: {formats.factor(ratio)} of the baseline at "
            f"{formats.significant(scale * rate)} spikes per neuron and step"
        )
        if 0 < ratio < math.inf:
            places.append((scale * rate, ratio, title))
    return tuple(places)


def _table(found: list[Plain], part: Plain) -> Table:
    rows = tuple(
        (
            point["model"], formats.significant(point["spike_rate"]),
            formats.significant(point["spikes_per_synapse"]), formats.factor(point["scale"]),
            formats.factor(_share(point)),
        )
        for point in found
    )  # fmt: skip
    counts = part["counts"]
    measured = (
        "Measured", formats.significant(counts["spike_rate"]),
        formats.significant(counts["spikes_per_synapse"]), formats.factor(1.0), "",
    )  # fmt: skip
    return Table(
        f"Break-even against {called(found[0]['against'])}",
        ("<Price list", "Spikes per neuron and step", "Spikes per synapse", "Of the measured spikes",
         "Energy without any spike"),
        rows,
        measured,
        _remarks(found, part["literature"]),
    )  # fmt: skip


def _remarks(found: list[Plain], literature: list[Plain]) -> str:
    """Why a list has no break-even, and what was published."""
    reasons = dict.fromkeys(point["reason"] for point in found if point.get("reason"))
    told = [
        f"{', '.join(p['model'] for p in found if p.get('reason') == reason)}: {reason}."
        for reason in reasons
    ]
    lines = [f"{line['name']}: {_range(line)} {line['unit']}" for line in literature]
    if lines:
        told.append(f"Published break-even rates: {'; '.join(lines)}.")
    return " ".join(told)


def _share(point: Plain) -> float | None:
    return point["idle_uj"] / point["baseline_uj"] if point["baseline_uj"] > 0 else None


def _range(line: Plain) -> str:
    low, high = formats.significant(line["low"]), formats.significant(line["high"])
    return low if low == high else f"{low} to {high}"


def chip(part: Plain) -> list[Block]:
    """Whether a chip's published limits let the network in."""
    fit = part["fit"]
    cores = f"{formats.count(fit['cores_used'])} of {formats.count(fit['cores_available'])} cores"
    word = "fits on one" if fit["fits"] else "does not fit on one"
    problems = " ".join(f"{text}." for text in fit.get("problems") or ())
    sentence = f"By its published limits the network {word} {fit['chip']} chip: {cores}. {problems}"
    rows = tuple(
        (
            layer["node"], formats.count(layer["neurons"]), formats.size(layer["synapse_bits"]),
            formats.count(layer["in_axons"]), formats.count(layer["out_axons"]),
            formats.count(layer["cores"]), layer["limit"],
        )
        for layer in fit["layers"]
    )  # fmt: skip
    table = Table(
        f"Cores of {fit['chip']} that each layer takes",
        ("<Layer", "Neurons", "Synapses", "Axons in", "Axons out", "Cores", "<Decided by"),
        rows,
    )
    return [Prose(sentence.strip()), Fold(f"Cores of {fit['chip']} per layer", (table,))]


def constants(part: Plain) -> list[Block]:
    """Every constant that prices rest on, once, with its source and the lists that use it."""
    users: dict[tuple[str, ...], list[str]] = {}
    for price in part["prices"]:
        for constant in price["constants"]:
            users.setdefault(_constant(constant), []).append(price["name"])
    if not users:
        return []
    rows = tuple((*told, ", ".join(dict.fromkeys(names))) for told, names in users.items())
    headings = ("<Constant", "Value", "<Unit", "<Node", "<Evidence", "<Source", "<Used by")
    table = Table("Constants of the price lists", headings, rows)
    return [Fold(f"All {len(rows)} constants of the price lists, with their sources", (table,))]


def _constant(constant: Plain) -> tuple[str, ...]:
    value = constant.get("value")
    number = formats.significant(value) if NUMBER.holds(value) else str(value or formats.NONE)
    told = [str(constant.get(k) or formats.NONE) for k in ("unit", "node", "evidence", "source")]
    return (str(constant.get("name")), number, *told)
