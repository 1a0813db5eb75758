"""Part of the section on energy: where the energy goes, layer by layer, and what was counted."""

from collections.abc import Mapping

from spikemorph.energy.results import PARTS

from ... import formats
from ...blocks import Block, Figure, Fold, Table
from ...plots_bars import MOST, Bar, Bars, bars
from ...shapes import Plain
from .forms import SPIKING

_COLUMNS = 7  # price lists beside each other: as many as a sheet of paper holds


def layers(part: Plain) -> list[Block]:
    """The spiking network's energy by layer and by purpose."""
    priced = [price for price in part["prices"] if price["layers"].get(SPIKING)]
    if not priced:
        return []
    order = [layer["node"] for layer in part["counts"]["layers"]]
    tables = tuple(_table(priced[k : k + _COLUMNS], order) for k in range(0, len(priced), _COLUMNS))
    return [_figure(_fullest(priced)), Fold("Energy per layer under every price list", tables)]


def _fullest(priced: list[Plain]) -> Plain:
    """The price list that tells most purposes apart, of the band if it can be."""

    def told_apart(price: Plain) -> tuple[bool, int]:
        return price["in_band"], len(_purposes(price["layers"][SPIKING]))

    return max(priced, key=told_apart)


def _purposes(rows: list[Plain]) -> list[str]:
    """What energy is spent on."""
    return [key for key in PARTS if any(row.get(key) for row in rows)]


def _figure(price: Plain) -> Figure:
    rows = price["layers"][SPIKING]
    used = _purposes(rows)
    drawn = tuple(_bar(row, used) for row in rows if _total(row))[:MOST]
    unit, factor = _unit(max((_total(row) for row in rows), default=1.0))
    scaled = tuple(
        Bar(bar.name, tuple((v * factor, title) for v, title in bar.parts), bar.end)
        for bar in drawn
    )
    plot = Bars(f"Energy per layer under {price['name']}", f"{unit} per inference", scaled)
    title = f"Energy per layer under {price['name']}, by what it is spent on"
    keys = tuple(key.replace("_", " ") for key in used)
    return Figure(title, lambda width: bars(plot, width), price["title"], keys, keyed_by="bar")


def _unit(most: float) -> tuple[str, float]:
    """The unit of an axis up to `most` microjoules, and the factor to it."""
    steps = ((1e3, "mJ", 1e-3), (1.0, "µJ", 1.0), (1e-3, "nJ", 1e3))
    return next(((name, by) for least, name, by in steps if most >= least), ("pJ", 1e6))


def _bar(row: Plain, used: list[str]) -> Bar:
    parts = tuple(
        (
            row.get(key, 0.0),
            f"{row['node']}: {formats.energy(row.get(key, 0.0))} {key.replace('_', ' ')}",
        )
        for key in used
    )
    return Bar(row["node"], parts, formats.energy(_total(row)))


def _total(row: Plain) -> float:
    return float(sum(row.get(key, 0.0) for key in PARTS))


def _table(priced: list[Plain], order: list[str]) -> Table:
    nodes = list(dict.fromkeys(r["node"] for price in priced for r in price["layers"][SPIKING]))
    nodes.sort(key=lambda node: order.index(node) if node in order else len(order))
    by_node = [{r["node"]: _total(r) for r in price["layers"][SPIKING]} for price in priced]
    rows = tuple(
        (
            node,
            *(formats.energy(found[node]) if node in found else formats.NONE for found in by_node),
        )
        for node in nodes
    )
    totals = (formats.energy(sum(found.values())) for found in by_node)
    return Table(
        "Energy of one inference of the sparse SNN",
        ("<Layer", *(price["name"] for price in priced)),
        rows,
        ("All layers", *totals),
    )


COUNTED: Mapping[
    str, tuple[str, bool]
] = {  # what a layer's count is called; is it a sum over samples
    "weights": ("Weights", False),
    "nonzero_weights": ("Not zero", False),
    "mac_dense": ("ANN products", False),
    "mac_effective": ("of them not by zero", True),
    "synops": ("Synaptic operations", True),
    "synops_dense_weights": ("with dense weights", True),
    "analog_macs": ("Analog products", True),
    "spikes_out": ("Spikes out", True),
    "updates_driven": ("Neuron updates", True),
    "updates_idle": ("Idle neuron steps", True),
}


def counted(part: Plain) -> list[Block]:
    """Synaptic operations and the other counts, per inference."""
    counts = part["counts"]
    rows, samples = counts["layers"], counts["samples"]
    if not rows or not samples:
        return []
    names = {key: (label, samples if mean else 1) for key, (label, mean) in COUNTED.items()}
    kept = {key: label for key, label in names.items() if all(key in row for row in rows)}
    body = tuple(
        (row["node"], *(formats.count(row[key] / by) for key, (_, by) in kept.items()))
        for row in rows
    )
    totals = (formats.count(sum(row[key] for row in rows) / by) for key, (_, by) in kept.items())
    table = Table(
        f"Counts of one inference, mean over {formats.plural(samples, 'sample')}",
        ("<Node", *(label for label, _ in kept.values())),
        body,
        ("All", *totals),
        "A synaptic operation is an event that reaches a weight that is not zero.",
    )
    return [Fold("What was counted", (table, *_bits(part)))]


def _bits(part: Plain) -> list[Table]:
    """Bit operations, which have no unit of energy."""
    names = {
        "ace_integer_dense": "Quantised ANN, dense (ACE)",
        "ace_integer_masked": "Quantised ANN, same mask (ACE)",
        "s_ace_dense": "Dense SNN, every product (S-ACE)",
        "s_ace_masked": "Sparse SNN, every product (S-ACE)",
        "ns_ace_dense": "Dense SNN, products of spikes (NS-ACE)",
        "ns_ace_masked": "Sparse SNN, products of spikes (NS-ACE)",
    }
    rows = tuple((names.get(key, key), formats.count(value)) for key, value in part["bits"].items())
    headings = ("<Form", "Bit operations")
    return [Table("Bit operations of one inference", headings, rows)] if rows else []
