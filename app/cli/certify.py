"""``spikemorph certify``: print what is proved; with data, count what differs, or prove robustness."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from spikemorph.graph import InputError
from spikemorph.train.processes import Processes

from ..choices import by_name
from ..choices.settings import CertifyChoice
from ..measures.certified import balls_of, certify_robust
from ..measures.evaluation import measure
from ..measures.robustness import Where
from ..report import certificate_table, plain_certificate
from ..report.certified import certified_lines, certified_table
from ..sources import sampling
from ..sources.models import certified
from . import options, output
from .meter import meter
from .output import out as console


def certify_network(
    network: Annotated[Path, typer.Argument(help="A network that convert saved, or zoo:NAME.")],
    data: Annotated[
        str | None,
        typer.Option("--data", help="Count mismatching logits on it; with --eps, what to prove."),
    ] = None,
    eps: Annotated[
        str | None,
        typer.Option(
            help="Prove that no change within it makes an answer wrong: 1/255,8/255, in shares of the "
            "inputs' range; one for each channel as 1/255:2/255:1/255."
        ),
    ] = None,
    method: Annotated[
        str, typer.Option(help="Of --eps: intervals, or lines: tighter, longer.")
    ] = "lines",
    samples: Annotated[int, typer.Option(help="Of --eps: the first so many; 0: all.", min=0)] = 0,
    folder: Annotated[
        Path | None,
        typer.Option(
            help="Of --eps: keeps finished blocks, so that a stopped run goes on; for torchrun."
        ),
    ] = None,
    block: Annotated[
        int | None, typer.Option(help="Samples that a stop loses at most; default 100.", min=1)
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
    if eps is not None:
        wanted = CertifyChoice(tuple(eps.split(",")), method, samples)
        _robust(network, data, wanted, task, Where(folder, block=block), json_file, csv_file)
        return
    if folder is not None or block is not None or samples:
        raise InputError(
            "--samples, --folder and --block are for --eps: give it, or leave them out"
        )
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


def _robust(
    network: Path,
    data: str | None,
    choice: CertifyChoice,
    task: str | None,
    where: Where,
    json_file: Path | None,
    csv_file: Path | None,
) -> None:
    """Certified accuracy at every eps; several processes that share a folder share the work."""
    balls_of(choice)
    if data is None:
        raise InputError("--eps: which samples? Give them with --data")
    processes = Processes.from_environment()
    if processes.world > 1 and where.folder is None:
        raise InputError(f"{processes.world} processes share a folder: give it with --folder")
    options.can_be_written(None, json_file, network, data, csv_file=csv_file)
    spiking, certificate, _ = certified(network)
    given = options.read_data(data, choice.samples or None, task, spiking.entry)
    with meter() as watch:
        result = certify_robust(
            Path(str(network).removeprefix("zoo:")).stem, spiking, certificate, given, choice,
            where=replace(where, processes=processes, tell=output.tell, watch=watch),
            command=shlex.join(["spikemorph", *sys.argv[1:]]),
        ).to_dict()  # fmt: skip
    if processes.rank:
        return
    output.write_json(json_file, result)
    output.write_csv(csv_file, result["per_sample"])
    output.show(certified_table(result))
    output.say(*certified_lines(result))
