"""The section on sparsity: which share of each layer's weights is left."""

from collections.abc import Mapping

from spikemorph.prune.task import LayerSparsity

from .. import formats
from ..blocks import Block, Cell, Figure, Prose, Table
from ..plots_bars import MOST, Bar, Bars, bars
from ..shapes import NUMBER, TEXT, ListOf, Maybe, Plain, Shape, shape_of

SHAPE: Shape = {
    "layers": ListOf(shape_of(LayerSparsity)),
    "method?": Maybe(TEXT),
    "target?": Maybe(NUMBER),
}


def sparsity(parts: Mapping[str, Plain]) -> list[Block]:
    """What pruning left, in all and layer by layer."""
    part = parts["sparsity"]
    layers = part["layers"]
    weights, left = totals(part)
    if not weights:
        return [Prose("The network has no weights.")]
    method = f" Pruned by {part['method']}." if part.get("method") else ""
    lead = (
        f"{formats.count(left)} of {formats.count(weights)} weights of the float network are not zero: "
        f"it is {formats.percent(100 * (1 - left / weights))} sparse.{method}{_masked(layers)}"
    )
    plot = Bars(
        "Weights left in every layer", "per cent of the layer's weights that are left",
        tuple(_bar(layer) for layer in layers[:MOST]), most=100,
    )  # fmt: skip
    figure = Figure("Weights left per layer", lambda width: bars(plot, width), drawn_of(layers))
    return [Prose(lead, "lead"), figure, _table(layers, weights, left)]


def _masked(layers: list[Plain]) -> str:
    """How many weights the masks keep, where that is not all."""
    kept = sum(layer["kept"] for layer in layers)
    if kept == sum(layer["weights"] for layer in layers):
        return ""
    return f" Its masks keep {formats.count(kept)}."


def drawn_of(layers: list[Plain]) -> str:
    """What to say where not all layers are drawn."""
    return "" if len(layers) <= MOST else f"The first {MOST} of {len(layers)} layers."


def totals(part: Plain) -> tuple[int, int]:
    """All weights of the part, and those that are not zero."""
    layers = part["layers"]
    return sum(layer["weights"] for layer in layers), sum(layer["nonzero"] for layer in layers)


def _density(layer: Plain) -> float:
    return 100 * layer["nonzero"] / layer["weights"] if layer["weights"] else 0.0


def _bar(layer: Plain) -> Bar:
    left = _density(layer)
    title = (
        f"{layer['node']}: {formats.count(layer['nonzero'])} of "
        f"{formats.count(layer['weights'])} weights left"
    )
    return Bar(layer["node"], ((left, title),), f"{formats.significant(left)} %")


def _table(layers: list[Plain], weights: int, left: int) -> Table:
    rows = tuple(
        (
            layer["node"], formats.count(layer["weights"]), formats.count(layer["nonzero"]),
            formats.percent(100 - _density(layer)),
            Cell(formats.short_hash(layer["mask_hash"]), "code"),
        )
        for layer in layers
    )  # fmt: skip
    total = formats.percent(100 * (1 - left / weights))
    return Table(
        "Weights and masks",
        ("<Layer", "Weights", "Not zero", "Sparsity", "<Mask (SHA-256, first 16)"),
        rows,
        ("All layers", formats.count(weights), formats.count(left), total, ""),
    )
