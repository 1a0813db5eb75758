"""Certified accuracy for the terminal, from plain results only."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from .robust import eps_text

Plain = Mapping[str, Any]


def certified_table(result: Plain) -> Table:
    """What is proved at every eps, and how much of it by intervals alone."""
    title = f"{result['model']} on {result['data']}, {result['n']} samples, {result['norm']}"
    table = Table(title=Text(title, style="table.title"), box=SIMPLE_HEAD)
    table.add_column("every image within eps")
    for heading in ("certified %", "95 %", "by intervals %"):
        table.add_column(heading, justify="right")
    clean = result["clean"]
    table.add_row("0 (clean)", *_share(clean), "")
    for row in result["eps"]:
        plain = 100 * row["intervals"] / max(1, result["n"])
        table.add_row(Text(eps_words(row)), *_share(row["certified"]), f"{plain:.2f}")
    return table


def eps_words(row: Plain) -> str:
    """The eps of a row, one for each channel where they differ."""
    return ":".join(eps_text(eps) for eps in row["channels"] or [row["eps"]])


def _share(share: Plain) -> tuple[str, str]:
    return f"{share['accuracy']:.2f}", f"{share['low']:.1f} to {share['high']:.1f}"


def certified_lines(result: Plain) -> list[str]:
    """What the numbers say, what an eps below a step means, and what stands in the way most often."""
    found = [
        f"proved, in whole numbers: after {result['steps']} steps the spiking network gives the right "
        f"answer for every image within eps ({result['seconds_per_image']:.3g} s an image)",
        *result["remarks"],
    ]
    near = [s for s in result["per_sample"] if s["clean"] and s["reason"] is not None]
    if near:
        first = result["per_sample"].index(near[0])
        found.append(
            f"{len(near)} right samples are not proved at every eps; sample {first}: {near[0]['reason']}"
        )
    return found
