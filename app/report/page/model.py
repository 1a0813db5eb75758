"""Sections on the model: what it is, and what became of each of its nodes."""

from collections.abc import Mapping

from ...measures.results import Inspection
from .. import formats
from ..blocks import Block, Cell, Facts, Fold, Prose, Table
from ..shapes import TEXT, MapOf, Plain, shape_of

SHAPE = shape_of(Inspection) | {"about?": MapOf(TEXT)}
NEURONS, WEIGHTS, FOLDED, ANALOG, KEPT, REFUSED = (
    "became neurons",
    "keep integer weights",
    "were folded away",
    "stayed analog",
    "kept as they are",
    "cannot be converted",
)
_BEGINNINGS = (  # of what the inspection says of a node
    ("a neuron layer", NEURONS),
    ("added: a neuron", NEURONS),
    ("integer weights", WEIGHTS),
    ("folded", FOLDED),
    ("taken over", FOLDED),
    ("dropped", FOLDED),
    ("summed", FOLDED),
    ("kept in the analog", ANALOG),
    ("kept", KEPT),
    ("integers on the input grid", KEPT),
    ("can be taken", KEPT),
)
FEW = 8  # names that are listed in a sentence, and above twice as many rows a table is folded


def model(parts: Mapping[str, Plain]) -> list[Block]:
    """What the model is."""
    part = parts["model"]
    nodes = part["nodes"]
    kinds = [node["op"] for node in nodes if node["op"] != "Input"]
    entries = [formats.shape(n["shape"]) for n in nodes if n["op"] == "Input"]
    layers = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    rows = [
        ("Name", part["model"]),
        ("Input", " and ".join(entries) or formats.NONE),
        ("Trained parameters", formats.count(part["parameters"])),
        ("Nodes", layers),
        *part.get("about", {}).items(),
        *_measured_as(parts.get("evaluation")),
    ]
    return [Facts(tuple(rows))]


def _measured_as(evaluation: Plain) -> list[tuple[str, str]]:
    if evaluation is None:
        return []
    samples = formats.plural(evaluation["n"], "sample")
    outputs = formats.plural(evaluation["outputs"], "output")
    return [
        ("Neurons", evaluation["neuron"]),
        ("Measured on", f"{evaluation['data']}: {samples}, {outputs} each"),
    ]


def conversion(parts: Mapping[str, Plain]) -> list[Block]:
    """What became a neuron, what was folded, what stayed analog; then node by node."""
    nodes = parts["model"]["nodes"]
    fates = [(node, fate(node)) for node in nodes]
    rows = []
    for name in (NEURONS, WEIGHTS, FOLDED, ANALOG, KEPT, REFUSED):
        own = [node["name"] for node, found in fates if found == name]
        if own or name in (ANALOG, REFUSED):
            rows.append((f"{name[0].upper()}{name[1:]}", _listed(own)))
    table = Table(
        "Every node of the model, and what becomes of it",
        ("<Node", "<Fate", "<Operation", "<Output", "<What becomes of it"),
        tuple(_row(node, found) for node, found in fates),
    )
    refused = sum(not node["converts"] for node in nodes)
    blocks: list[Block] = [Facts(tuple(rows))]
    if refused:
        text = f"{formats.plural(refused, 'node')} cannot be converted, so there is no network yet."
        blocks.insert(0, Prose(text, "warn"))
    long = len(nodes) > 2 * FEW
    blocks.append(Fold(f"All {len(nodes)} nodes", (table,)) if long else table)
    return blocks


def fate(node: Plain) -> str:
    """Which group a node belongs to, by what the inspection says of it."""
    if not node["converts"]:
        return REFUSED
    reason = node["reason"]
    return next((group for start, group in _BEGINNINGS if reason.startswith(start)), KEPT)


def _row(node: Plain, found: str) -> tuple[str | Cell, ...]:
    tone = {NEURONS: "tag c0", ANALOG: "tag c1", FOLDED: "tag c2", REFUSED: "tag bad"}
    words = {NEURONS: "neuron", WEIGHTS: "weights", FOLDED: "folded", ANALOG: "analog"}
    tag = Cell(words.get(found, "kept" if found == KEPT else "refused"), tone.get(found, "tag"))
    return (node["name"], tag, node["op"], formats.shape(node["shape"]), node["reason"])


def _listed(names: list[str]) -> str:
    if not names:
        return "nothing"
    more = len(names) - FEW
    return ", ".join(names[:FEW]) + (f" and {more} more" if more > 0 else "")
