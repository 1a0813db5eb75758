"""``spikemorph data``: which data sets there are, and how to get them here."""

from typing import Annotated

import typer
from rich.table import Column, Table

from spikemorph.zoo import data_catalogue, fetch_data

from . import output
from .output import out as console

program = typer.Typer(help="Data sets: list them, fetch them.")


@program.command("list")
def list_data(json_file: output.JsonOption = None, csv_file: output.CsvOption = None) -> None:
    """The data sets, their sizes and licences."""
    rows = [
        {
            "name": entry.name,
            "summary": entry.summary,
            "shape": list(entry.shape),
            "splits": {name: split.count for name, split in entry.splits.items()},
            "licence": entry.licence,
            "citation": entry.citation,
        }
        for entry in data_catalogue()
    ]
    output.write_json(json_file, rows)
    output.write_csv(csv_file, rows)
    table = Table(Column("name", no_wrap=True), "what", "shape", "splits", "licence")
    for entry in data_catalogue():
        splits = ", ".join(f"{name} {split.count}" for name, split in entry.splits.items())
        shape = "x".join(map(str, entry.shape))
        table.add_row(entry.name, entry.summary, shape, splits, entry.licence)
    console.print(table)


@program.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(help="A name that `data list` shows.")],
    quiet: output.QuietOption = False,
) -> None:
    """Fetch a data set, verify its checksum, keep it in the cache."""
    with output.waiting() as say_what:
        folder = fetch_data(name, tell=say_what)
    where = "comes with the installation" if folder is None else f"is in {folder}"
    output.say(f"{name} {where}")
