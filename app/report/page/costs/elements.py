"""Part of the section on energy: what recurrent layers do element by element, beside their twins."""

from collections.abc import Callable, Mapping

from markupsafe import Markup

from ... import formats
from ...blocks import Block, Figure
from ...plots_curves import Curves, Series, curves
from ...shapes import Plain

MOST, POINTS = 4, 128  # recurrent layers that are drawn, the first ones; points of a line
_NAMES: Mapping[str, str] = {
    "spiking": "spiking network",
    "all": "quantised ANN, same mask",
    "mac_effective": "skipping zeros",
    "mac_changed": "skipping what did not change",
}


def elements(part: Plain) -> list[Block]:
    """Operations at every element of each recurrent layer: of spikes, and of the quantised network."""
    counts = part["counts"]
    drawn = [layer for layer in counts.get("along", ()) if len(layer["synops"]) > 1]
    return [_figure(layer, counts["samples"]) for layer in drawn[:MOST] if counts["samples"]]


def _figure(layer: Plain, samples: int) -> Figure:
    found = _means(layer, samples)
    sums = {name: sum(values) / len(values) for name, values in found.items()}
    reading = (
        "Mean over the samples of synaptic operations and products of input by the spiking network, and "
        f"of products by its quantised twin. An element takes {formats.count(sums['spiking'])} on "
        f"average; the twin {formats.count(sums['all'])}, {formats.count(sums['mac_effective'])} "
        f"skipping zeros, {formats.count(sums['mac_changed'])} skipping what did not change."
    )
    title = f"Operations per element: {layer['node']}"
    keys = tuple(_NAMES.values())
    return Figure(title, _drawn(title, found), reading, keys, keyed_by="line")


def _means(layer: Plain, samples: int) -> dict[str, list[float]]:
    spiking = zip(layer["synops"], layer["analog_macs"], strict=False)
    found = {
        "spiking": [(sent + entered) / samples for sent, entered in spiking],
        "all": [float(layer["mac_masked"])] * len(layer["synops"]),
    }
    skipping = ("mac_effective", "mac_changed")
    return found | {name: [count / samples for count in layer[name]] for name in skipping}


def _drawn(title: str, found: Mapping[str, list[float]]) -> Callable[[int], Markup]:
    series = tuple(
        Series(
            _NAMES[name],
            tuple(
                (first, value, f"{_NAMES[name]}, from element {first} on: {formats.count(value)}")
                for first, value in _thinned(values)
            ),
        )
        for name, values in found.items()
    )
    plot = Curves(title, "element", "operations", series, signs=False, low=0)
    return lambda width: curves(plot, width)


def _thinned(values: list[float]) -> list[tuple[int, float]]:
    """Means of neighbouring elements, with the number of the first; few enough to be drawn."""
    many = -(-len(values) // POINTS)
    blocks = [(start, values[start : start + many]) for start in range(0, len(values), many)]
    return [(start + 1, sum(block) / len(block)) for start, block in blocks]
