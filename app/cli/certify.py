"""``spikemorph certify``: print and save what is proved; with data, count what differs."""

from pathlib import Path
from typing import Annotated

import typer

from ..choices import by_name
from ..measures.evaluation import measure
from ..report import certificate_table, plain_certificate
from ..sources import sampling
from ..sources.models import certified
from . import options
from .options import out as console


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
    json_file: options.JsonOption = None,
    seed: options.SeedOption = 0,
    device: options.DeviceOption = "cpu",
) -> None:
    """Prove again what can be proved of a network. Exit status 3 where nothing is proved."""
    where = options.device(device)
    plain = Path(str(network).removeprefix("zoo:"))
    out = out or plain.with_suffix(".certificate.json")
    for file in (out, json_file):
        options.can_be_written(None, file, network, data)
    spiking, certificate, _ = certified(network)
    result = certificate.to_dict()
    differing = None
    if data is not None:
        steps = certificate.steps_used or 32
        x = sampling.fitting(options.read_data(data, task=task, entry=spiking.entry), spiking.graph)
        with options.progress(len(x), "comparing") as watch:
            found = measure(spiking, by_name.engine(engine, spiking, where, steps), x, steps, watch)
        differing = found.mismatches(steps)
        result |= {"data": data, "n": len(x), "mismatching_logits": differing}
    options.write_json(out, result)
    options.write_json(json_file, result)
    options.show(certificate_table(certificate))
    options.say(*plain_certificate(certificate))
    if differing is not None:
        console.print(f"{differing} mismatching logits of {found.counts * len(x)} on {data}")
    if certificate.level is None:
        raise typer.Exit(3)
    if certificate.level == "A" and differing:
        console.print("level A, and yet outputs differ: this is a defect, please report it")
        raise typer.Exit(1)
