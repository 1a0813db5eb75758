"""``spikemorph certify``: print and save what is proved; with data, count what differs."""

from pathlib import Path
from typing import Annotated

import typer

from ..choices import by_name
from ..measures.evaluation import measure
from ..report import certificate_table, plain_certificate
from ..sources import sampling
from ..sources.models import certified
from . import options, output
from .output import out as console


def certify_network(
    network: Annotated[Path, typer.Argument(help="A network that convert saved, or zoo:NAME.")],
    data: Annotated[
        str | None, typer.Option("--data", help="Count mismatching logits on it.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Default: the network's name, .certificate.json")
    ] = None,
    engine: Annotated[str, typer.Option(help="auto, dense or reference")] = "auto",
    task: options.TaskOption = None,
    json_file: output.JsonOption = None,
    csv_file: output.CsvOption = None,
    quiet: output.QuietOption = False,
    seed: options.SeedOption = 0,
    device: options.DeviceOption = "cpu",
) -> None:
    """Prove again what can be proved of a network. Exit status 3 where nothing is proved."""
    where = options.device(device)
    plain = Path(str(network).removeprefix("zoo:"))
    out = out or plain.with_suffix(".certificate.json")
    options.can_be_written(None, json_file, network, data, csv_file=csv_file)
    options.can_be_written(None, out, network, data)
    spiking, certificate, _ = certified(network)
    result = certificate.to_dict()
    differing = None
    if data is not None:
        steps = certificate.steps_used or 32
        given = options.read_data(data, task=task, entry=spiking.entry)
        x, long = sampling.fitting(given, spiking.graph, mixed=True), sampling.ends(given)
        with output.progress(len(x), "comparing") as watch:
            ready = by_name.engine(engine, spiking, where, steps)
            found = measure(spiking, ready, x, steps, watch, lengths=long)
        differing = found.mismatches(steps)
        result |= {"data": data, "n": len(x), "mismatching_logits": differing}
    output.write_json(out, result)
    output.write_json(json_file, result)
    output.write_csv(csv_file, result["layers"])
    output.show(certificate_table(certificate))
    output.say(*plain_certificate(certificate))
    if differing is not None:
        console.print(f"{differing} mismatching logits of {found.counts * len(x)} on {data}")
    if certificate.level is None:
        raise typer.Exit(3)
    if certificate.level == "A" and differing:
        console.print("level A, and yet outputs differ: this is a defect, please report it")
        raise typer.Exit(1)
