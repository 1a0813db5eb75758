"""The rows that sparse_networks.py made, as a Markdown table and a picture.

python benchmarks/sparse_plot.py runs/fashion_vgg --svg docs/pictures/sparse_fashion_vgg.svg
"""

import json
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer
from markupsafe import Markup

from spikemorph.graph.saving import write_bytes
from spikemorph.report.plots import symbol
from spikemorph.report.plots_curves import Curves, Series, curves

WIDTH, STEP, LINE, IN_LINE = 640, 118, 13, 5  # pixels: the picture, a name of its legend
ORDER = (
    "dense", "magnitude", "rigl", "hydra", "synflow", "gradual", "gradual-distilled",
    "gradual-distilled-plain", "gradual-distilled-mirrored",
    "hydra-distilled", "continued",
)  # fmt: skip


def main(
    folder: Annotated[Path, typer.Argument(help="What --out of sparse_networks.py was.")],
    svg: Annotated[Path | None, typer.Option(help="Where to draw accuracy over weights.")] = None,
) -> None:
    """Print the table; draw the picture."""
    found = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    rows = [row for row in found if "mismatching_logits" in row]
    rows.sort(key=lambda row: (row["sparsity"], ORDER.index(row["method"])))
    dense = next(row for row in rows if row["method"] == "dense")
    print(
        "| zeros % | method | epochs | held out % | float % | integer % | change | spikes, first "
        "1000 % | logits off | certificate | file, KiB |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(cells(row, dense))
    if svg is not None:
        write_bytes(svg, picture(rows, dense).encode())


def cells(row: dict[str, Any], dense: dict[str, Any]) -> str:
    """One row; the change is of the integer network's accuracy against the dense one's."""
    held = "" if row["held_out"] is None else f"{row['held_out']:.2f}"
    values = (
        f"{100 * row['zeros']:.2f}", row["method"], str(row["epochs"] or ""), held,
        f"{row['float']:.2f}", f"{row['integer']:.2f}", f"{row['integer'] - dense['integer']:+.2f}",
        f"{row['spiking']:.2f}", f"{row['mismatching_logits']} of {row['logits']:,}",
        f"{row['level']}, {row['steps']} steps", f"{row['stored_bytes'] / 1024:.0f}",
    )  # fmt: skip
    return f"| {' | '.join(values)} |"


def picture(rows: list[dict[str, Any]], dense: dict[str, Any]) -> str:
    """Accuracy of the integer (and so of the settled spiking) network over the weights left."""
    names = [name for name in ORDER[1:] if any(row["method"] == name for row in rows)]
    series = tuple(Series(name, points(rows, name)) for name in names)
    plot = Curves(
        f"{dense['network']}: accuracy over weights left",
        "weights left, per cent", "accuracy on all test images, per cent",
        series, levels=(("dense", dense["integer"]),), doubling=True,
    )  # fmt: skip
    drawn = curves(plot, WIDTH)
    keys = "".join(
        symbol(56 + STEP * column, 22 + LINE * line, k)
        + Markup('<text x="{}" y="{}">{}</text>').format(64 + STEP * column, 26 + LINE * line, n)
        for k, n in enumerate(names)
        for line, column in (divmod(k, IN_LINE),)
    )
    css = (files("spikemorph.report.page") / "page.css").read_text(encoding="utf-8")
    ground = '<rect width="100%" height="100%" fill="var(--paper, white)"/>'
    head, _, body = str(drawn).partition(">")
    return f'{head} xmlns="http://www.w3.org/2000/svg"><style>{css}</style>{ground}{keys}{body}'


def points(rows: list[dict[str, Any]], method: str) -> tuple[tuple[float, float, str], ...]:
    """(weights left, accuracy, what hovering shows) of one method, sparsest first."""
    own = [row for row in rows if row["method"] == method]
    own.sort(key=lambda row: -row["zeros"])
    return tuple(
        (
            round(100 * (1 - row["zeros"]), 1),
            row["integer"],
            f"{method}: {row['integer']:.2f} % with {100 * (1 - row['zeros']):.2f} % of the weights",
        )
        for row in own
    )


if __name__ == "__main__":
    typer.run(main)
