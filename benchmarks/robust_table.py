"""The robust networks that `spikemorph run` made, as a Markdown table.

python benchmarks/robust_table.py runs/robust-cifar
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

Plain = dict[str, Any]
HEADINGS = (
    "network", "road", "zeros %", "clean, all %", "clean %", "first attack, all paths %",
    "worst case %", "95 % intervals", "red flags", "its float network: clean, worst case %",
)  # fmt: skip


def main(folder: Annotated[Path, typer.Argument(help="What --out of the run was.")]) -> None:
    """Print one row for each network; slashes part the eps."""
    rows = json.loads((folder / "robust.json").read_text())["networks"]
    print(f"| {' | '.join(HEADINGS)} |")
    print("|---" * len(HEADINGS) + "|")
    for row in rows:
        own = json.loads((folder / row["name"] / "robustness.json").read_text())
        print(f"| {' | '.join(cells(row, own, accuracy(folder / row['name'])))} |")


def accuracy(folder: Path) -> tuple[float | None, int]:
    """What the spiking network gets right of all test samples (settled spikes: as the integer
    network does), and how many these are."""
    timed = folder / "timing.json"
    if timed.exists():
        found = json.loads(timed.read_text())["whole"]
        return found["accuracy"], found["n"]
    found = json.loads((folder / "evaluation.json").read_text())["whole"]
    return found["integer_accuracy"], found["n"]


def cells(row: Plain, own: Plain, clean: tuple[float | None, int]) -> list[str]:
    """One row; the first attack's ensemble is what was left when its last path had been tried."""
    first = own["eps"][0]["attacks"][0]["name"]
    ensemble = [
        [member["cumulative"] for member in level["attacks"] if member["name"] == first][-1]
        for level in own["eps"]
    ]
    right, shown = clean
    return [
        row["name"], row["road"], f"{row['sparsity']:.1f}",
        "" if right is None else f"{right:.2f} of {shown}", f"{row['clean']:.0f} of {row['n']}",
        f"{first}: {slashed(ensemble)}", slashed(row["robust"].values()),
        ", ".join(f"{low:.0f}-{high:.0f}" for low, high in row["ci95"].values()),
        ", ".join(row["flags"]) or ("none" if row["gates"] else "no gates"),
        f"{row['ann_clean']:.0f}, {slashed(row['ann_robust'].values())}",
    ]  # fmt: skip


def slashed(values: Any) -> str:
    """Per cent, one number an eps."""
    return " / ".join(f"{value:.0f}" for value in values)


if __name__ == "__main__":
    typer.run(main)
