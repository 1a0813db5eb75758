"""Sections that compare: one network in all its forms, and several networks side by side."""

from collections.abc import Callable, Mapping

from ...measures.comparison import Comparison
from .. import formats
from ..blocks import Block, Cell, Figure, Prose, Table
from ..plots_bars import Ratios, ratios
from ..plots_curves import Curves, Series, curves
from ..shapes import Plain, shape_of
from .costs.forms import FORMS, SHORT, called

SHAPE = shape_of(Comparison)
# Of every measure: its key, its name, how it is written, and which of several is best.
_MEASURES: tuple[
    tuple[str, str, Callable[[Plain], str], Callable[[list[Plain]], Plain] | None], ...
]
_MEASURES = (
    ("kind", "What it is", str, None),
    ("accuracy", "Accuracy", formats.percent, max),
    ("integer_accuracy", "Accuracy of its integer network", formats.percent, None),
    ("float_accuracy", "Accuracy of its float network", formats.percent, None),
    ("agreement", "Agreement with its integer network", formats.percent, None),
    ("mismatching_logits", "Mismatching logits", formats.count, None),
    ("level", "Certificate", str, None),
    ("steps", "Time steps", formats.count, min),
    ("sparsity", "Weights that are zero", formats.percent, None),
    ("spikes_per_inference", "Spikes per inference", formats.count, min),
    ("synops", "Synaptic operations per inference", formats.count, min),
    ("storage_bits", "Weights stored", formats.size, min),
    ("verdict", "Energy verdict", str, None),
)


def forms(parts: Mapping[str, Plain]) -> list[Block]:
    """The ANN, the quantised ANN and the spiking network under every price list."""
    part = parts["energy"]
    prices = part["prices"]
    text = (
        "One network in every form it can take: the float ANN, the quantised ANN (dense or with the same "
        "mask, with and without skipping zeros), and the spiking network, dense and sparse."
    )
    if part["dense_source"]:
        text += f" Dense SNN: {part['dense_source']}."
    ann, spiking = (
        [form for form in FORMS if form.startswith("snn") == spikes] for spikes in (False, True)
    )
    return [
        Prose(text),
        _spread(prices),
        _priced("Energy of one inference as an ANN", ann, prices),
        _priced("Energy of one inference as a spiking network", spiking, prices),
    ]


def _priced(caption: str, kinds: list[str], prices: list[Plain]) -> Table:
    used = [form for form in kinds if any(p.get(form) is not None for p in prices)]
    rows = tuple(
        (price["name"], *(formats.energy(price.get(form)) for form in used))
        for price in prices
        if any(price.get(form) is not None for form in used)
    )
    note = "Compare within a row only: lists differ in what they price."
    headings = (called(form).replace(" ANN", "").replace("ANN, ", "") for form in used)
    return Table(caption, ("<Price list", *headings), rows, note=note)


def _spread(prices: list[Plain]) -> Figure:
    rows = []
    for price in prices:
        found = [(index, price.get(form), called(form)) for index, form in enumerate(SHORT)]
        signs = tuple(
            (index, value, f"{price['name']}: {formats.energy(value)}, {name}")
            for index, value, name in found
            if value
        )
        rows.append((price["name"], signs))
    label = "Energy of every form under every price list"
    plot = Ratios(label, "µJ per inference", tuple(rows))
    reading = (
        "Each row is one price list; further left is less energy. Lists differ in what they price."
    )
    keys = tuple(called(form) for form in SHORT)
    return Figure(label, lambda width: ratios(plot, width), reading, keys)


def comparison(parts: Mapping[str, Plain]) -> list[Block]:
    """Networks in columns, measures in rows; the best of a row stands out."""
    part = parts["comparison"]
    networks = part["networks"]
    if not networks:
        return [Prose("No network was compared.")]
    rows = [_row(networks, *measure) for measure in _MEASURES]
    lists = dict.fromkeys(name for network in networks for name in network["energy"])
    rows += [_energies(networks, name) for name in lists]
    proved = dict.fromkeys(eps for network in networks for eps in network.get("certified", {}))
    rows += [_proved(networks, eps) for eps in proved]
    table = Table(
        f"Measured on {_where(part)}; the best of a row is set in bold",
        ("<Measure", *(network["name"] for network in networks)),
        tuple(row for row in rows if row is not None),
    )
    placed = [n for n in networks if n["synops"] and n["accuracy"] is not None]
    return [_scatter(placed), table] if len(placed) > 1 else [table]


def extremes(part: Plain) -> str:
    """Which network is right most often, and which needs the fewest operations, in one sentence."""
    networks = part["networks"]
    text = f"{formats.plural(len(networks), 'network')} on {_where(part)}"
    right = [n for n in networks if n["accuracy"] is not None]
    counted = [n for n in networks if n["synops"] is not None]
    found = []
    if right:
        best = max(right, key=lambda n: n["accuracy"])
        found.append(f"{best['name']} is right most often ({formats.percent(best['accuracy'])})")
    if counted:
        least = min(counted, key=lambda n: n["synops"])
        found.append(
            f"{least['name']} needs the fewest synaptic operations ({formats.count(least['synops'])} "
            "per inference)"
        )
    return f"{text}: {' and '.join(found)}." if found and len(networks) > 1 else f"{text}."


def _where(part: Plain) -> str:
    return f"{part['data']}, {formats.plural(part['n'], 'sample')}"


def _row(
    networks: list[Plain],
    key: str,
    name: str,
    written: Callable[[Plain], str],
    best: Callable[[list[Plain]], Plain] | None,
) -> tuple[str | Cell, ...] | None:
    return _cells(name, [network.get(key) for network in networks], written, best)


def _energies(networks: list[Plain], name: str) -> tuple[str | Cell, ...] | None:
    found = [network["energy"].get(name) for network in networks]
    return _cells(f"Energy, {name}", found, formats.energy, min)


def _proved(networks: list[Plain], eps: str) -> tuple[str | Cell, ...] | None:
    found = [network.get("certified", {}).get(eps) for network in networks]
    return _cells(f"Proved right within eps {eps}", found, formats.percent, max)


def _cells(
    name: str,
    values: list[Plain],
    written: Callable[[Plain], str],
    best: Callable[[list[Plain]], Plain] | None,
) -> tuple[str | Cell, ...] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    top = best(known) if best is not None and len(set(known)) > 1 else None
    cells = (
        Cell(
            formats.NONE if v is None else written(v), "best" if v == top and v is not None else ""
        )
        for v in values
    )
    return (name, *cells)


def _scatter(networks: list[Plain]) -> Figure:
    series = tuple(
        Series(
            network["name"],
            (
                (
                    float(network["synops"]),
                    network["accuracy"],
                    f"{network['name']}: {formats.percent(network['accuracy'])} with "
                    f"{formats.count(network['synops'])} synaptic operations",
                ),
            ),
        )
        for network in networks
    )
    plot = Curves(
        "Accuracy against synaptic operations", "synaptic operations per inference",
        "accuracy, per cent", series, doubling=True,
    )  # fmt: skip
    keys = tuple(network["name"] for network in networks)
    return Figure(
        "Accuracy against synaptic operations", lambda width: curves(plot, width), "", keys
    )
