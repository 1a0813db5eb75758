"""What a command prints and writes: sentences, tables, data as JSON and CSV, progress beside them."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from spikemorph.graph.errors import Message
from spikemorph.graph.saving import write_bytes

from .wording import worded

STANDARD = Path("-")  # in place of a file: standard output, which then holds nothing else
_WIDE = 500  # columns: more than any table needs

out = Console()
progress_console = Console(stderr=True)
errors = Console(stderr=True)


def _silent(context: typer.Context, console: Console) -> None:
    """Nothing more is printed there by this command."""
    console.quiet = True
    context.call_on_close(lambda: setattr(console, "quiet", False))


def _alone(context: typer.Context, path: Path | None) -> Path | None:
    if path == STANDARD:
        _silent(context, out)
    return path


def _hushed(context: typer.Context, wanted: bool) -> bool:
    if wanted:
        _silent(context, progress_console)
    return wanted


JsonOption = Annotated[
    Path | None,
    typer.Option(
        "--json",
        help="Also write the result as JSON; - writes it, and nothing else, to standard output.",
        metavar="FILE",
        callback=_alone,
    ),
]
CsvOption = Annotated[
    Path | None,
    typer.Option(
        "--csv",
        help="Also write the table as CSV; - as with --json.",
        metavar="FILE",
        callback=_alone,
    ),
]
QuietOption = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", help="No progress on standard error; warnings stay.", callback=_hushed
    ),
]


def warn(*lines: str) -> None:
    """Print warnings on standard error, each on a line of its own."""
    for line in lines:
        _sentence(errors, f"warning: {line}")


def say(*lines: str) -> None:
    """Print sentences, each on a line of its own; a terminal breaks long ones between words."""
    for line in lines:
        _sentence(out, line)


def tell(said: str | Message) -> None:
    """Progress, beside the output."""
    _sentence(progress_console, worded(said))


def _sentence(console: Console, line: str) -> None:
    """As it is where it is piped on: other programs look for whole lines."""
    piped = not console.is_terminal
    console.print(
        line, highlight=False, markup=False, soft_wrap=piped, overflow="ignore", crop=False
    )


def show(table: Table) -> None:
    """Print a table; one that needs more than the terminal has is not cut: its lines run over."""
    wide = out.options.update(width=_WIDE, max_width=_WIDE)
    needed = Measurement.get(out, wide, table)
    whole = all(column.no_wrap for column in table.columns)
    before = out.width
    spare = len(table.columns)  # what is measured as the least still cuts a column by one
    out.width = max(before, needed.maximum if whole else needed.minimum + spare)
    try:
        out.print(table, crop=False)
    finally:
        out.width = before


def write_json(path: Path | None, result: Any) -> None:
    """Write a result as JSON, whole or not at all."""
    _write(path, json.dumps(result, indent=2) + "\n")


def write_csv(path: Path | None, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows of a result as CSV, their inner values under names with dots; lists are left out."""
    if path is None:
        return
    flat = [dict(_flat(row)) for row in rows]
    names = dict.fromkeys(name for row in flat for name in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    _write(path, text.getvalue())


def _flat(row: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        elif not isinstance(value, list | tuple):
            yield f"{before}{name}", value


def _write(path: Path | None, text: str) -> None:
    if path == STANDARD:
        sys.stdout.write(text)
    elif path is not None:
        write_bytes(path, text.encode())


@contextmanager
def waiting() -> Iterator[Callable[[str], None]]:
    """A line on the error stream, if that is a terminal, that goes when it is over; yields its pen."""
    with Progress(
        TextColumn("{task.description}", markup=False),
        console=progress_console, transient=True, disable=not sys.stderr.isatty(),
    ) as shown:  # fmt: skip
        task = shown.add_task("", total=None)
        yield lambda line: shown.update(task, description=line)


@contextmanager
def progress(total: int, text: str) -> Iterator[Any]:
    """A progress bar on the error stream, if that is a terminal; yields what to call with a count."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=progress_console, transient=True, disable=not sys.stderr.isatty()
    ) as bar:
        task = bar.add_task(text, total=total)
        yield lambda count: bar.advance(task, count)
