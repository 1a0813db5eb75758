"""Sections on activity: spikes of every layer, and the raster of one sample."""

from collections.abc import Mapping

from ...measures.activity import Activity
from .. import formats
from ..blocks import Block, Cell, Figure, Group, Prose, Table
from ..plots_spikes import HeatRow, RasterRow, heat, raster, share_bar
from ..shapes import Plain, shape_of

SHAPE = shape_of(Activity)
_SIGNS = ("spike up", "spike down")
MOST_LAYERS = 32  # rasters drawn; the first and the last layers are kept
MOST_STEPS, MOST_COLUMNS = 40, 128  # steps of the heat map, and of a raster


def spikes(parts: Mapping[str, Plain]) -> list[Block]:
    """How many spikes each layer sends, when, and how many neurons never do."""
    part = parts["activity"]
    layers = part["layers"]
    if not layers:
        return [Prose("The network has no neuron layer, so nothing spikes.")]
    total = sum(_sum(layer) for layer in layers)
    busiest = max(layers, key=_sum)
    neurons = sum(layer["neurons"] for layer in layers)
    share = 100 * _sum(busiest) / total if total else 0.0
    lead = (
        f"One inference sends {formats.count(total)} spikes from {formats.count(neurons)} neurons, "
        f"{formats.significant(total / neurons)} each. The busiest layer is {busiest['node']}, with "
        f"{formats.significant(share)} % of them."
    )
    rows = tuple(_heat_row(layer) for layer in layers)
    figure = Figure(
        "Spikes per layer and step",
        lambda width: heat("Spikes per layer and step", rows, width, "time step"),
        f"Mean spikes of one inference, over {formats.plural(part['n'], 'sample')}, both signs. "
        f"The darkest cell is {formats.count(max(max(row.values, default=0.0) for row in rows))}.",
    )
    return [Prose(lead, "lead"), figure, _table(layers, total)]


def _sum(layer: Plain) -> float:
    return float(sum(layer["positive"]) + sum(layer["negative"]))


def _heat_row(layer: Plain) -> HeatRow:
    pairs = list(zip(layer["positive"], layer["negative"], strict=False))[:MOST_STEPS]
    titles = tuple(
        f"{layer['node']}, step {step}: {formats.count(up)} positive, {formats.count(down)} "
        "negative spikes"
        for step, (up, down) in enumerate(pairs, 1)
    )
    return HeatRow(layer["node"], tuple(float(up + down) for up, down in pairs), titles)


def _table(layers: list[Plain], total: float) -> Table:
    rows = []
    for layer in layers:
        own, down = _sum(layer), float(sum(layer["negative"]))
        rows.append(
            (
                layer["node"], formats.count(layer["neurons"]),
                Cell(formats.count(own), picture=share_bar(own / total if total else 0)),
                f"{formats.significant(100 * down / own if own else 0)} %",
                formats.significant(own / layer["neurons"] if layer["neurons"] else 0),
                formats.significant(layer["firing_rate"]),
                f"{formats.significant(layer['silent_share'])} %",
            )
        )  # fmt: skip
    neurons = sum(layer["neurons"] for layer in layers)
    down = sum(sum(layer["negative"]) for layer in layers)
    share = f"{formats.significant(100 * down / total if total else 0)} %"
    mean = formats.significant(total / neurons if neurons else 0)
    return Table(
        "Spikes of one inference, mean over the samples",
        ("<Layer", "Neurons", "Spikes", "Negative", "Per neuron", "Per neuron and step",
         "Silent neurons"),
        tuple(rows),
        ("All layers", formats.count(neurons), formats.count(total), share, mean, "", ""),
        "A silent neuron sent no spike for any of the samples.",
    )  # fmt: skip


def rasters(parts: Mapping[str, Plain]) -> list[Block]:
    """Which neuron fires when, for one sample."""
    part = parts["activity"]
    layers = part["raster"]
    drawn = layers if len(layers) <= MOST_LAYERS else _ends(layers)
    sampled = any(len(layer["shown"]) < layer["neurons"] for layer in drawn)
    text = (
        f"Sample {part['sample']} of the data. A row is a neuron, a column a time step, a bar a "
        "spike. A spike down takes back what a spike up has sent."
    )
    if any(layer.get("elements") for layer in drawn):
        text += " Inside a recurrent layer a column is an element of the sequence."
    if sampled:
        text += (
            " Of large layers some neurons are shown, evenly spaced; each caption says how many."
        )
    if len(drawn) < len(layers):
        text += f" {len(layers) - len(drawn)} layers in the middle are left out."
    steps = max(1, min(part["steps"], MOST_COLUMNS))
    if steps < part["steps"]:
        text += f" The first {steps} of {formats.count(part['steps'])} steps are drawn."
    figures = tuple(_raster(layer, _columns(layer, steps)) for layer in drawn)
    return [Prose(text), Group(figures, "quarter", _SIGNS, "spike")]


def _columns(layer: Plain, steps: int) -> int:
    """How many steps, or elements, are drawn."""
    return min(layer["elements"], MOST_COLUMNS) if layer.get("elements") else steps


def _ends(layers: list[Plain]) -> list[Plain]:
    half = MOST_LAYERS // 2
    return [*layers[:half], *layers[-half:]]


def _raster(layer: Plain, steps: int) -> Figure:
    by_neuron: dict[int, list[tuple[int, int]]] = {neuron: [] for neuron in layer["shown"]}
    for neuron, step, size in layer["spikes"]:
        if neuron in by_neuron and 1 <= step <= steps:
            by_neuron[neuron].append((step, size))
    rows = tuple(RasterRow(_title(neuron, own), tuple(own)) for neuron, own in by_neuron.items())
    shown, neurons = len(layer["shown"]), layer["neurons"]
    many = f"{formats.count(neurons)} neurons"
    many = f"{shown} of {many}" if shown < neurons else many
    name = f"{layer['node']}: {many}"
    return Figure(layer["node"], lambda _: raster(name, rows, steps), many, half=True)


def _title(neuron: int, own: list[tuple[int, int]]) -> str:
    if not own:
        return f"neuron {neuron}: silent"
    sent = ", ".join(f"{size:+d} at step {step}" for step, size in own[:12])
    return f"neuron {neuron}: {sent}{', …' if len(own) > 12 else ''}".replace("-", formats.MINUS)
