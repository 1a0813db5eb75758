"""The section on certified robustness: what is proved at every eps, and what stands in the way."""

from collections import Counter
from collections.abc import Mapping

from spikemorph.robust.result import Share

from ... import formats
from ...blocks import Block, Cell, Code, Facts, Prose, Table
from ...certified import eps_words
from ...shapes import (
    ANYTHING,
    NUMBER,
    TEXT,
    TRUTH,
    WHOLE,
    ListOf,
    MapOf,
    Maybe,
    Plain,
    Shape,
    shape_of,
    within,
)
from .words import EPS, PERCENT, share, threat

_SHARE = shape_of(Share, accuracy=PERCENT, low=PERCENT, high=PERCENT)
SHAPE: Shape = {
    "model": TEXT,
    "data": TEXT,
    "n": WHOLE,
    "kind": TEXT,
    "steps": Maybe(WHOLE),
    "classes": WHOLE,
    "norm": TEXT,
    "method": TEXT,
    "sparsity": {"weights": Maybe(WHOLE), "nonzero": Maybe(WHOLE)},
    "clean": _SHARE,
    "eps": ListOf(
        {"eps": EPS, "channels": Maybe(ListOf(EPS)), "certified": _SHARE, "intervals": WHOLE}
    ),
    "seconds_per_image": within(NUMBER, 0, 1e9),
    "remarks": ListOf(TEXT),
    "per_sample": ListOf({"clean": TRUTH, "certified": Maybe(EPS), "reason": Maybe(TEXT)}),
    "reproduce?": {"command?": TEXT, "versions?": MapOf(ANYTHING)},
}
_METHODS: Mapping[str, str] = {
    "intervals": "intervals: a least and a greatest value for every number",
    "lines": "linear bounds from the outputs back, and intervals; the better of both",
}


def certified(parts: Mapping[str, Plain]) -> list[Block]:
    """What is proved, in one sentence and at every eps; attacks beside, where there were some."""
    part, attacked = parts["certified"], parts.get("robustness")
    blocks: list[Block] = [Prose(_found(part), "lead")]
    blocks += [Prose(remark, "warn") for remark in part["remarks"]]
    blocks += [Facts(_facts(part)), _table(part, attacked)]
    if any(sample["reason"] for sample in part["per_sample"]):
        blocks.append(_ways(part))
    command = part.get("reproduce", {}).get("command")
    return [*blocks, Prose("This command proved it:"), Code(command)] if command else blocks


def _found(part: Plain) -> str:
    start = f"Of {formats.plural(part['n'], 'sample')} of {part['data']}, "
    if not part["eps"]:
        return f"{start}nothing was to be proved."
    row = part["eps"][0]
    own = row["certified"]
    return (
        f"{start}the network is right on {share(own['accuracy'], own['low'], own['high'])} for every "
        f"image within eps {eps_words(row)}: proved in whole numbers, of the integer network and so of "
        "its spikes once settled. No attack can break these. In brackets: 95 % intervals."
    )


def _facts(part: Plain) -> tuple[tuple[str, str], ...]:
    weights, nonzero = part["sparsity"]["weights"], part["sparsity"]["nonzero"]
    rows = [("Holds after steps", formats.count(part["steps"]))]
    if weights and nonzero is not None:
        rows.append(("Weights that are zero", formats.percent(100 * (1 - nonzero / weights))))
    return (
        *rows,
        ("What an attacker may do", threat(part["norm"])),
        ("Bounds", _METHODS.get(part["method"], part["method"])),
        ("Seconds an image, all eps", f"{part['seconds_per_image']:.3g}"),
    )


def _table(part: Plain, attacked: Plain | None) -> Table:
    """Certified beside what attacks left, of the same samples and norm."""
    same = attacked is not None and all(attacked[k] == part[k] for k in ("data", "n", "norm"))
    worst = {row["eps"]: row["worst_case"] for row in attacked["eps"]} if same and attacked else {}
    rows = [_row("0 (clean)", part["clean"], None, None, part["n"], bool(worst))]
    for row in part["eps"]:
        left = worst.get(row["eps"])
        rows.append(
            _row(eps_words(row), row["certified"], row["intervals"], left, part["n"], bool(worst))
        )
    headings: tuple[str, ...] = ("<Every image within eps", "Certified", "By intervals alone")
    if worst:
        headings += ("Attacks leave", "Undecided")
    return Table("What is proved at every eps (95 % interval)", headings, tuple(rows))


def _row(
    name: str, own: Plain, intervals: int | None, left: float | None, n: int, beside: bool
) -> tuple[str | Cell, ...]:
    alone = formats.NONE if intervals is None else formats.percent(100 * intervals / max(1, n))
    cells = (name, Cell(share(own["accuracy"], own["low"], own["high"]), "best"), alone)
    if not beside:
        return cells
    if left is None:
        return (*cells, formats.NONE, formats.NONE)
    return (*cells, formats.percent(left), formats.points(left, own["accuracy"]))


def _ways(part: Plain) -> Table:
    """Up to which eps how many samples are proved."""
    upto = Counter(sample["certified"] for sample in part["per_sample"] if sample["clean"])
    wrong = sum(not sample["clean"] for sample in part["per_sample"])
    rows: list[tuple[str | Cell, ...]] = [("wrong without any change", formats.count(wrong))]
    rows.append(("right, and proved at no eps", formats.count(upto[None])))
    rows += [
        (f"proved up to eps {eps_words(row)}", formats.count(upto[row["eps"]]))
        for row in part["eps"]
    ]
    return Table("How far samples are proved", ("<Samples", "Count"), tuple(rows))
