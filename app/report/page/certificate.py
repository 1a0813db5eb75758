"""The section on what is proved: the certificate in plain words, and layer by layer."""

from collections.abc import Mapping
from dataclasses import fields

from spikemorph.convert import Certificate
from spikemorph.convert.certificate import LayerProof, MaskProof

from .. import formats
from ..blocks import Block, Cell, Facts, Prose, Table
from ..shapes import Plain, shape_of
from ..text import plain_certificate

SHAPE = shape_of(Certificate)


def certificate(parts: Mapping[str, Plain]) -> list[Block]:
    """What is proved, of what, and how it can be checked."""
    part = parts["certificate"]
    first, *rest = plain_certificate(read_certificate(part))
    blocks: list[Block] = [Prose(first, "good" if part["level"] == "A" else "warn")]
    blocks += [Prose(line.strip(), "note") for line in rest]
    blocks.append(Facts(_facts(part)))
    if part["layers"]:
        blocks.append(_table(part["layers"]))
    if part["masks"]:
        blocks.append(_masks(part["masks"]))
    return blocks


def read_certificate(part: Plain) -> Certificate:
    """The certificate that a checked part of a run describes."""
    rows = {
        "layers": tuple(LayerProof(**_known_of(LayerProof, x)) for x in part["layers"]),
        "masks": tuple(MaskProof(**_known_of(MaskProof, x)) for x in part.get("masks", ())),
        "refusals": tuple(part["refusals"]),
        "per": part.get("per", "inference"),  # which older runs do not say
    }
    return Certificate(**{**_known_of(Certificate, part), **rows})


def _known_of(kind: type, plain: Plain) -> dict[str, Plain]:
    return {f.name: plain.get(f.name) for f in fields(kind)}


def _facts(part: Plain) -> tuple[tuple[str, str], ...]:
    used, required = part["steps_used"], part["steps_required"]
    return (
        (
            "Steps that all inputs need"
            if part.get("per") != "element"
            else "Steps an element needs",
            "no bound" if required is None else formats.count(required),
        ),
        ("Steps it is run for", formats.count(used)),
        ("The input is complete after step", formats.count(part["input_steps"])),
        ("Network hash (SHA-256)", part["network_hash"]),
    )


def _table(layers: list[Plain]) -> Table:
    rows = []
    for layer in layers:
        top = "no end" if layer["smax"] is None else str(layer["smax"])
        rows.append(
            (
                layer["node"], layer["neuron"], f"{layer['smin']} to {top}", str(layer["gate"]),
                _known(layer["takes"]), _known(layer["final"]), str(layer["sum_bits"] or "–"),
                Cell(layer["ladder_hash"], "code"),
            )
        )  # fmt: skip
    return Table(
        "What is proved of every neuron layer, for all inputs",
        ("<Layer", "<Neuron", "Levels", "May fire from step", "Takes steps", "Final by step",
         "Bits of its sums", "<Ladder"),
        tuple(rows),
    )  # fmt: skip


def _masks(masks: list[Plain]) -> Table:
    rows = tuple(
        (
            mask["node"], formats.count(mask["weights"]), formats.count(mask["kept"]),
            formats.count(mask["nonzero"]), Cell(mask["mask_hash"], "code"),
        )
        for mask in masks
    )  # fmt: skip
    return Table(
        "Masks that the network keeps: every weight outside them is zero",
        ("<Layer", "Weights", "Kept by the mask", "Not zero", "<Mask"),
        rows,
    )


def _known(value: int | None) -> str | Cell:
    return Cell("no bound", "bad") if value is None else str(value)
