"""Tables and sentences about robustness for the terminal, from plain results only."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

Plain = Mapping[str, Any]
_SHOWN = 12  # members of an ensemble that a table lists before it sums up


def robustness_table(result: Plain) -> Table:
    """What stands after each member of the ensemble, at every eps."""
    title = f"{result['model']} on {result['data']}, {result['n']} samples, {result['norm']}"
    table = Table(title=Text(title, style="table.title"), box=SIMPLE_HEAD)
    table.add_column("attack, gradient path", overflow="fold")
    for heading in ("steps", "attacked", "broken", "left %", "zero\ngradient %"):
        table.add_column(heading, justify="right")
    for row in result["eps"]:
        table.add_row(Text(f"eps {eps_text(row['eps'])}", style="bold"))
        for member in _telling(row["attacks"]):
            share, path = member["zero_gradient_fraction"], member["path"]
            table.add_row(
                Text(member["name"] if path is None else f"{member['name']}, {path}"),
                _whole(member["steps"]), str(member["attacked"]), str(member["broken"]),
                f"{member['cumulative']:.2f}", "-" if share is None else f"{100 * share:.1f}",
            )  # fmt: skip
        low, high = row["ci95"]
        worst = Text(f"{row['worst_case']:.2f}", style="bold")
        table.add_row(Text(f"worst case ({low:.1f} to {high:.1f})", style="bold"), *3 * [""], worst)
    return table


def _telling(members: Sequence[Plain]) -> Sequence[Plain]:
    """All members of a short list; of a long one, those that broke something."""
    if len(members) <= _SHOWN:
        return members
    return [member for member in members if member["broken"]]


def gate_lines(result: Plain) -> list[str]:
    """One line for each gate: passed, RED FLAG, or not run; what was measured."""
    words = {True: "passed", False: "RED FLAG", None: "not run"}
    return [
        f"{words[gate['passed']]:>8}  {gate['title']}: {gate['detail']}" for gate in result["gates"]
    ]


def robustness_lines(result: Plain) -> list[str]:
    """Clean accuracy with its interval, corruptions, and how many gates flag."""
    clean, gates = result["clean"], result["gates"]
    flags = sum(gate["passed"] is False for gate in gates)
    said = f"clean: {clean['accuracy']:.2f} % (95 %: {clean['low']:.1f} to {clean['high']:.1f})"
    lines = [said, *_corruption_lines(result["corruptions"])]
    if not gates:
        return [*lines, "no gate was asked: nothing says that these numbers are not inflated"]
    idle = sum(gate["passed"] is None for gate in gates)
    return [*lines, f"gates: {len(gates) - flags - idle} passed, {flags} red flags, {idle} not run"]


def _corruption_lines(found: Plain) -> list[str]:
    """The mean, and the least mean over severities; the report and the JSON have all of them."""
    if found is None:
        return []
    means = [sum(row) / len(row) for row in found["accuracy"]]
    least = min(range(len(means)), key=means.__getitem__)
    return [
        f"corruptions: {found['mean']:.2f} % on average over {len(means)} at {len(found['severities'])} "
        f"severities; least under {found['names'][least]}: {means[least]:.2f} %"
    ]


def robust_networks_table(plain: Plain) -> Table:
    """A recipe's networks in rows: both roads, clean and worst case at every eps."""
    rows = plain["networks"]
    n = rows[0]["n"] if rows else 0
    title = f"worst case on {plain['data']}, {n} samples, per cent"
    table = Table(title=Text(title, style="table.title"), box=SIMPLE_HEAD, padding=0)
    table.add_column("network", overflow="fold")
    headings = ["sparse", "clean", *rows[0]["robust"]] if rows else []
    for heading in headings:
        table.add_column(eps_text(heading) if heading[0].isdigit() else heading, justify="right")
    for heading in ("ANN clean", "ANN robust", "flags"):
        table.add_column(heading, justify="right", overflow="fold")
    for row in rows:
        table.add_row(
            Text(row["name"]), f"{row['sparsity']:.1f}", f"{row['clean']:.1f}",
            *(f"{value:.1f}" for value in row["robust"].values()), f"{row['ann_clean']:.1f}",
            " ".join(f"{value:.1f}" for value in row["ann_robust"].values()),
            ", ".join(row["flags"]) or ("none" if row["gates"] else "no gates"),
        )  # fmt: skip
    return table


def eps_text(eps: float | str) -> str:
    """An eps as k/255 where it is one, else as a number.

    >>> eps_text(8 / 255), eps_text("0.01569"), eps_text(0.1), eps_text(1)
    ('8/255', '4/255', '0.1', '1')
    """
    value = float(eps)
    levels = round(value * 255)
    close = abs(levels / 255 - value) < 6e-5  # an eps may have been rounded to four digits
    return f"{levels}/255" if close and levels and round(value, 2) != value else f"{value:.4g}"


def _whole(value: int | None) -> str:
    return "-" if value is None else str(value)
