"""``spikemorph evaluate``: accuracy, agreement and spikes over time steps."""

from pathlib import Path
from typing import Annotated

import typer

from spikemorph.convert import canonical, certify, load_certified

from .. import choices, sampling
from ..evaluation import curve_steps, evaluate, parsed_steps
from ..models import load_graph, network_file
from ..report import curve_table, plain_certificate, summary_lines
from . import options
from .options import out as console


def evaluate_network(
    network: Annotated[Path, typer.Argument(help="A network that convert saved, or zoo:NAME.")],
    data: Annotated[
        str, typer.Option("--data", help="digits:test, mnist:test:1000, FILE.npz, folder")
    ],
    steps: Annotated[str, typer.Option(help="auto, or 1,2,4,8")] = "auto",
    engine: Annotated[str, typer.Option(help="auto, dense or reference")] = "auto",
    exit_: Annotated[
        str, typer.Option("--exit", help="none, silent, confidence=0.9, conformal=0.01")
    ] = "none",
    calibration: Annotated[
        str | None, typer.Option("--calibration", help="For --exit conformal; not the test data.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="The float model, to measure it too; known for zoo:NAME."),
    ] = None,
    json_file: options.JsonOption = None,
    seed: options.SeedOption = 0,
    device: options.DeviceOption = "cpu",
) -> None:
    """Run a saved network and compare it, at every step, with the integer pass."""
    where, rule, wanted = options.device(device), choices.exit_rule(exit_), parsed_steps(steps)
    options.can_be_written(json_file)
    spiking, certificate, notes = load_certified(network_file(network))
    points = curve_steps(certificate) if wanted is None else list(wanted)
    certificate = certify(spiking, max(points))
    low, high = notes.get("input_range", (0.0, 1.0))
    samples = options.read_data(data)
    x = sampling.values(samples, (low, high), spiking.entry.shape)
    held = None
    if calibration is not None:
        drawn = sampling.drawn(options.read_data(calibration), seed)
        held = sampling.values(drawn, (low, high), spiking.entry.shape)
    source = model or notes.get("source")
    floats = None if source is None else canonical(load_graph(source).graph)
    with options.progress(len(x), "evaluating") as watch:
        result = evaluate(
            spiking, choices.engine(engine, spiking, where, max(points)), certificate, x, samples.y,
            steps=points, names=(str(notes.get("model", network.stem)), data), float_graph=floats,
            exit_rule=rule, exit_calibration=held, watch=watch,
        )  # fmt: skip
    options.write_json(json_file, result.to_dict())
    console.print(curve_table(result))
    options.say(*summary_lines(result), *plain_certificate(certificate))
