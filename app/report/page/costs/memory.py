"""The section on memory: what is stored, why it is smaller, what a run needs."""

from collections.abc import Mapping

from spikemorph.energy.memory.results import MemoryResult, WeightMemory

from ... import formats
from ...blocks import Block, Figure, Fold, Prose, Table
from ...plots_bars import Bar, Bars, bars
from ...shapes import NUMBER, WHOLE, ListOf, MapOf, Plain, shape_of

SHAPE = shape_of(
    MemoryResult,
    computed=(
        "weights_total", "weights_nonzero", "storage_bits", "index_bits", "format", "dense_bits",
        "dense_int8_bits", "dense_fp32_bits", "model_bits", "state_bits", "state_bits_proved",
        "spike_bits", "runtime_bits", "runtime_bits_proved", "factors",
    ),
    bias_bits=WHOLE,
    smaller_than=MapOf({"weights": NUMBER, "model": NUMBER, "runtime": NUMBER}),
    layers=ListOf(shape_of(WeightMemory, computed=("dense_bits",))),
)  # fmt: skip


def memory(parts: Mapping[str, Plain]) -> list[Block]:
    """The ratio with its three factors; the levels; layer by layer."""
    part = parts["energy"].get("memory")
    if part is None:
        return []
    blocks: list[Block] = [Prose(_factors(part), "lead"), _figure(part), _levels(part)]
    if part["layers"]:
        blocks.append(_layers(part["layers"]))
    if part["states"]:
        blocks.append(Fold("State of every layer", (_states(part),)))
    return blocks


def _factors(part: Plain) -> str:
    stored, dense = part["storage_bits"], part["dense_fp32_bits"]
    start = f"The weights take {formats.size(stored)}, with the index that says where they belong"
    factors = part["factors"]
    if factors is None or not stored:
        return f"{start}."
    product = formats.factor(dense / stored)
    return (
        f"{start}: {product} less than dense float32. That is {formats.factor(factors['quantisation'])} "
        f"by quantisation, {formats.factor(factors['sparsity'])} by sparsity, and "
        f"{formats.factor(factors['index_overhead'])} for the index."
    )


def _figure(part: Plain) -> Figure:
    index = part["index_bits"]
    values = part["storage_bits"] - index
    rows = [
        ("Dense float32", part["dense_fp32_bits"], 0),
        ("Dense int8", part["dense_int8_bits"], 0),
        ("Dense, same width", part["dense_bits"], 0),
        (f"Stored ({part['format']})", values, index),
    ]
    drawn = tuple(
        Bar(
            name,
            (
                (bits / 8192, f"{name}: {formats.size(bits)} of weights"),
                (more / 8192, f"{name}: {formats.size(more)} of index"),
            ),
            formats.size(bits + more),
        )
        for name, bits, more in rows
        if bits is not None
    )
    plot = Bars("Size of the weights", "KiB", drawn)
    keys = ("weights", "index") if index else ()
    return Figure(plot.label, lambda width: bars(plot, width), "", keys, keyed_by="bar")


def _levels(part: Plain) -> Table:
    smaller = part["smaller_than"]
    names = {"fp32": "Than float32", "int8": "Than int8", "same_bits": "Than the same width"}
    kept = {key: name for key, name in names.items() if key in smaller}
    rows = tuple(
        (
            label, formats.size(part[bits]),
            *(formats.factor(smaller[key][level]) for key in kept),
        )
        for level, bits, label in (
            ("weights", "storage_bits", "Weights, with their index"),
            ("model", "model_bits", "Model: and biases, thresholds, scales"),
            ("runtime", "runtime_bits", "Run-time: and state, spikes, input"),
        )
    )  # fmt: skip
    width, proved = part.get("state_width"), part["runtime_bits_proved"]
    note = "" if width is None else f"Sums of neurons are kept in {width} bits"
    if note and proved is not None:
        note += f"; with the proved widths the run-time takes {formats.size(proved)}"
    headings = ("<What", "Size", *(f"{name[0].upper()}{name[1:]}" for name in kept.values()))
    return Table(
        "Sizes, and how many times smaller than with dense weights",
        headings,
        rows,
        note=f"{note}." if note else "",
    )


def _layers(layers: list[Plain]) -> Table:
    rows = []
    for layer in layers:
        tied = layer.get("tied_to")
        bits = layer["storage_bits"]
        ratio = layer["dense_bits"] / bits if bits else None
        rows.append(
            (
                layer["node"], f"tied to {tied}" if tied else layer["format"],
                formats.count(layer["nonzero"]), f"{layer['value_bits']} bits", formats.size(bits),
                formats.size(layer["index_bits"]), formats.factor(ratio),
            )
        )  # fmt: skip
    return Table(
        "Weights of every layer, each in its smallest format",
        ("<Layer", "<Format", "Not zero", "Width", "Stored", "of it index", "Smaller than dense"),
        tuple(rows),
    )


def _states(part: Plain) -> Table:
    rows = tuple(
        (
            state["node"], state["role"], formats.count(state["cells"]), formats.count(state["live"]),
            "no bound" if state["sum_bits"] is None else f"{state['sum_bits']} bits",
        )
        for state in part["states"]
    )  # fmt: skip
    return Table(
        "What is kept from step to step",
        ("<Layer", "<Kept by", "Cells", "Live", "Proved width of a sum"),
        rows,
    )
