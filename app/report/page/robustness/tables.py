"""Tables of robustness: eps, members of the ensemble, gradient paths, corruptions."""

from spikemorph.robust.cascade.outcome import MemberOutcome
from spikemorph.robust.gates.gradients import PathRecord

from ... import formats
from ...blocks import Block, Cell, Fold, Prose, Table
from ...plots_spikes import LEVELS, share_bar
from ...robust import eps_text
from ...shapes import TEXT, WHOLE, ListOf, Maybe, Plain, Shape, shape_of
from .words import FRACTION, PERCENT, same_eps, share

MEMBER = shape_of(
    MemberOutcome,
    leaving=("attack",),
    name=TEXT,
    cumulative=PERCENT,
    alone=Maybe(PERCENT),
    zero_gradient_fraction=Maybe(FRACTION),
    nan_gradient_fraction=Maybe(FRACTION),
)
PATH = shape_of(
    PathRecord,
    leaving=("zero", "nan"),
    robust=PERCENT,
    zero_gradient_fraction=FRACTION,
    nan_gradient_fraction=FRACTION,
)
CORRUPTIONS: Shape = {
    "names": ListOf(TEXT),
    "severities": ListOf(WHOLE),
    "accuracy": ListOf(ListOf(PERCENT)),
    "mean": PERCENT,
}


def worst_cases(part: Plain, twin: Plain | None) -> list[Block]:
    """What is left at every eps, of how many; the float twin beside."""
    rows = [_unattacked(part, twin), *(_attacked(row, twin) for row in part["eps"])]
    headings: tuple[str, ...] = ("<Threat", "Worst case", "Right")
    if twin is not None:
        headings += ("Float twin", "Against it")
    note = "A sample counts as right only if no attack, on no path, at no smaller eps, broke it."
    return [Table("Worst case at every eps (95 % interval)", headings, tuple(rows), note=note)]


def _unattacked(part: Plain, twin: Plain | None) -> tuple[str | Cell, ...]:
    clean = [share(p["clean"]["accuracy"], p["clean"]["low"], p["clean"]["high"])
             for p in (part, twin) if p is not None]  # fmt: skip
    row = ("no attack", clean[0], formats.NONE)
    if twin is None:
        return row
    return (*row, clean[1], formats.points(part["clean"]["accuracy"], twin["clean"]["accuracy"]))


def _attacked(row: Plain, twin: Plain | None) -> tuple[str | Cell, ...]:
    left = Cell(share(row["worst_case"], *row["ci95"]), "best")
    counted = f"{formats.count(row['correct'])} of {formats.count(row['n'])}"
    cells = (f"eps {eps_text(row['eps'])}", left, counted)
    if twin is None:
        return cells
    other = same_eps(twin, row["eps"])
    if other is None:
        return (*cells, formats.NONE, formats.NONE)
    difference = formats.points(row["worst_case"], other["worst_case"])
    return (*cells, share(other["worst_case"], *other["ci95"]), difference)


def members(rows: list[Plain]) -> list[Block]:
    """At every eps: every attack on every path, in the order in which they were run."""
    return [
        Fold(
            f"Every attack on every path at eps {eps_text(row['eps'])}: {_strongest(row)}",
            (_members(row),),
        )
        for row in rows
    ]


def _strongest(row: Plain) -> str:
    best = max(row["attacks"], key=lambda member: member["broken"], default=None)
    if best is None or not best["broken"]:
        return "none broke anything"
    path = "" if best["path"] is None else f" on {best['path']}"
    return f"{best['name']}{path} broke most"


def _members(row: Plain) -> Table:
    cells = tuple(
        (
            member["name"], member["path"] or formats.NONE, member["loss"] or formats.NONE,
            formats.count(member["steps"]), formats.count(member["attacked"]),
            formats.count(member["broken"]), formats.percent(member["cumulative"]),
            formats.percent(member["alone"]), _fraction(member["zero_gradient_fraction"]),
            formats.count(member["queries"]), formats.significant(member["seconds"]),
        )
        for member in row["attacks"]
    )  # fmt: skip
    carried = row.get("carried", 0)
    note = "Only survivors are attacked. Alone: known of members that met every sample."
    if carried:
        note += f" {formats.plural(carried, 'more sample')} broke at a smaller eps only."
    return Table(
        f"{formats.plural(len(cells), 'member')} at eps {eps_text(row['eps'])}, in order",
        ("<Attack", "<Path", "<Loss", "Steps", "Attacked", "Broken", "Left after it", "Alone",
         "Zero gradients", "Queries", "Seconds"),
        cells,
        ("Worst case", "", "", "", "", "", formats.percent(row["worst_case"]), "", "", "", ""),
        note,
    )  # fmt: skip


def _whose(record: Plain) -> Cell:
    """Whose gradient a path takes; one that is not exact asks the stand-in for outputs, too."""
    if not record["exact"]:
        return Cell("a stand-in, judged by itself", "dim")
    return Cell("a stand-in", "dim") if record.get("stand_in") else Cell("the network")


def paths(records: list[Plain]) -> list[Block]:
    """Every gradient path by itself: the strongest in bold, useless gradients in red."""
    if not records:
        return []
    least = min(record["robust"] for record in records)
    rows = tuple(
        (
            record["name"],
            _whose(record),
            Cell(
                formats.percent(record["robust"]), "best" if record["robust"] == least else "",
                share_bar(record["robust"] / 100),
            ),
            _share(record["zero_gradient_fraction"]), _share(record["nan_gradient_fraction"]),
            formats.significant(record["cosine"], 2),
        )
        for record in records
    )  # fmt: skip
    note = (
        "On the gates' samples, through this path alone; lower is a stronger attack. A stand-in gives "
        "the gradient alone, the network its outputs. Cosine: mean, of its gradients with those of "
        f"{records[0]['name']}."
    )
    headings = (
        "<Gradient path",
        "<Gradient of",
        "Left",
        "Zero gradients",
        "NaN gradients",
        "Cosine",
    )
    return [Table("Gradient paths, each alone", headings, rows, note=note)]


def _fraction(value: float | None) -> str:
    return formats.NONE if value is None else f"{formats.significant(100 * value)} %"


def _share(value: float) -> Cell:
    return Cell(_fraction(value), "bad" if value > 0 else "dim")


def corruptions(part: Plain) -> list[Block]:
    """Accuracy under the common corruptions, darker where more is right."""
    found = part["corruptions"]
    if not found or not found["names"]:
        return []
    clean = formats.percent(part["clean"]["accuracy"])
    lead = (
        f"Under the common corruptions (noise, blur, weather, compression) the network is right on "
        f"{formats.percent(found['mean'])} on average, without any on {clean}."
    )
    width = len(found["severities"])
    rows = tuple(
        (name, *(_heat(value) for value in values[:width]), *[""] * (width - len(values)), _mean(values))
        for name, values in zip(found["names"], found["accuracy"], strict=False)
    )  # fmt: skip
    table = Table(
        "Accuracy under common corruptions, per cent, by severity",
        ("<Corruption", *(str(severity) for severity in found["severities"]), "Mean"),
        rows,
        note="Severity 1 is slight, 5 severe. No attacker chooses them.",
    )
    return [Prose(lead), table]


def _heat(value: float) -> Cell:
    return Cell(f"{value:.1f}", f"heat-{round(LEVELS * value / 100)}")


def _mean(values: list[float]) -> str:
    return f"{sum(values) / len(values):.1f}" if values else formats.NONE
