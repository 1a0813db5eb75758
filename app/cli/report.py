"""``spikemorph report``: one page of a run, that opens offline."""

from pathlib import Path
from typing import Annotated

import typer

from ..report.formats import plural
from ..report.html import missing_parts, write_report
from ..report.index import networks_in, write_run
from ..report.record import holds_parts, read_run
from . import output


def report(
    run: Annotated[
        Path, typer.Argument(help="A run's folder, a folder of runs, or a report.json.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Default: report.html in the run's folder.")
    ] = None,
) -> None:
    """Render what is in a run; what is missing is named in the page, with the command that makes it.

    A folder whose folders are runs, as `run` and `demo` make it, gets an index.html of them all.
    """
    networks = networks_in(run)
    if networks and out is None:
        output.say(f"saved {write_run(run, networks)}: {plural(len(networks), 'network')}")
        if not holds_parts(run):
            return
    found = read_run(run)
    folder = run if run.is_dir() else run.parent
    path = out or folder / "report.html"
    write_report(found, path)
    missing = missing_parts(found)
    if missing:
        output.say(f"not in this run: {', '.join(missing)}; the page says how to make them")
    output.say(f"saved {path}")
