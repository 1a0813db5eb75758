"""The section on a network trained through time: accuracy step by step, and what it costs."""

from collections.abc import Mapping

from .. import formats
from ..blocks import Block, Facts, Figure, Prose
from ..plots_curves import Curves, Series, curves
from ..shapes import NUMBER, TEXT, WHOLE, ListOf, Maybe, Plain, Shape

SHAPE: Shape = {
    "model": TEXT,
    "data": TEXT,
    "n": WHOLE,
    "counted": WHOLE,
    "steps": WHOLE,
    "accuracy": Maybe(NUMBER),
    "float_accuracy?": Maybe(NUMBER),
    "sparsity?": NUMBER,
    "curve": ListOf({"steps": WHOLE, "accuracy": Maybe(NUMBER)}),
    "whole": {"n": WHOLE, "accuracy": Maybe(NUMBER), "float_accuracy?": Maybe(NUMBER)},
    "neurons": Maybe(WHOLE),
    "spikes_per_inference": NUMBER,
    "synops": NUMBER,
    "products": NUMBER,
}


def in_time(parts: Mapping[str, Plain]) -> list[Block]:
    """What it gets right, when, and what one inference takes."""
    part = parts["timing"]
    whole = part["whole"]
    floats = whole.get("float_accuracy")
    beside = (
        ""
        if floats is None
        else f"; the float network that it began as on {formats.percent(floats)}"
    )
    text = (
        f"Right on {formats.percent(whole['accuracy'])} of {formats.plural(whole['n'], 'sample')} of "
        f"{part['data']} at T = {part['steps']}{beside}. It has no certificate: there is no integer "
        "network that it could be compared with."
    )
    rows = (
        ("Neurons", formats.count(part["neurons"])),
        ("Spikes per inference", formats.count(part["spikes_per_inference"])),
        ("Synaptic operations per inference", formats.count(part["synops"])),
        ("Products with inputs that are no spikes", formats.count(part["products"])),
        ("Counted on", formats.plural(part["counted"], "sample")),
    )
    return [Prose(text, "lead"), *_over_time(part), Facts(rows)]


def _over_time(part: Plain) -> list[Block]:
    found = [(p["steps"], p["accuracy"]) for p in part["curve"] if p["accuracy"] is not None]
    if not found:
        return []
    points = tuple((float(t), v, f"after step {t}: {formats.percent(v)}") for t, v in found)
    plot = Curves(
        "Accuracy over time steps", "time steps", "per cent of samples",
        (Series("accuracy", points),), doubling=True, measured=True, high=100,
    )  # fmt: skip
    reading = f"On the first {formats.plural(part['n'], 'sample')}."
    return [Figure("Accuracy over time", lambda width: curves(plot, width), reading)]
