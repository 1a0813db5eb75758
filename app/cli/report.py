"""``spikemorph report``: one page of a run, that opens offline."""

from pathlib import Path
from typing import Annotated

import typer

from spikemorph.graph import InputError

from ..front.snn import load
from ..report.formats import plural
from ..report.html import missing_parts, write_report
from ..report.index import networks_in, write_run
from ..report.record import holds_parts, read_run
from . import options, output
from .running import evaluated


def report(
    run: Annotated[
        Path,
        typer.Argument(
            help="A run's folder, a folder of runs, a report.json; or a network that convert saved, "
            "or zoo:NAME."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Default: report.html in the run's folder; NAME.html of a network."
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Of a network: measured on it, and priced.")
    ] = None,
    task: options.TaskOption = None,
    quiet: output.QuietOption = False,
    device: options.DeviceOption = "cpu",
) -> None:
    """Render what is in a run; what is missing is named in the page, with the command that makes it.

    A folder whose folders are runs, as `run` and `demo` make it, gets an index.html of them all.
    """
    where = options.device(device)
    if str(run).startswith("zoo:") or run.suffix == ".safetensors":
        snn = load(run)
        path = out or Path(f"{Path(str(run).removeprefix('zoo:')).stem}.html")
        if data is not None:
            samples = options.read_data(data, task=task, entry=snn.network.entry)
            evaluated(snn, samples, where)
            snn.energy(samples)
        output.say(f"saved {snn.report(path)}")
        return
    if data is not None:
        raise InputError(f"{run}: is a run, which is measured already; leave --data {data} out")
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
