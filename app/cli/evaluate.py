"""``spikemorph evaluate``: accuracy, agreement and spikes over time steps."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from spikemorph.graph import InputError
from spikemorph.surrogate.folded_network import DeployedNetwork
from spikemorph.zoo import Samples

from ..choices import by_name
from ..front.snn import load
from ..report import curve_table, in_time_lines, in_time_table, plain_certificate, summary_lines
from ..sources import sampling
from ..sources.models import network_file
from ..sources.tasks import task_for
from ..training.through_time import measure_in_time, open_in_time
from . import options, output
from .options import parsed_steps


def evaluate_network(
    network: Annotated[Path, typer.Argument(help="What convert or finetune saved; or zoo:NAME.")],
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
    task: options.TaskOption = None,
    json_file: output.JsonOption = None,
    csv_file: output.CsvOption = None,
    quiet: output.QuietOption = False,
    seed: options.SeedOption = 0,
    device: options.DeviceOption = "cpu",
) -> None:
    """Run a saved network and compare it, at every step, with the integer pass."""
    where, rule, wanted = options.device(device), by_name.exit_rule(exit_), parsed_steps(steps)
    options.can_be_written(None, json_file, network, data, calibration, model, csv_file=csv_file)
    path = network_file(network)
    if path.suffix == ".safetensors" and (timed := open_in_time(path)) is not None:
        given: dict[str, object] = {"--exit": rule, "--calibration": calibration, "--model": model}
        given["--engine"] = None if engine == "auto" else engine
        given["--csv"] = csv_file
        _refuse_of_converted(network, given)
        _in_time(
            network,
            timed,
            options.read_data(data, task=task, entry=timed[0].graph.entry),
            wanted,
            json_file,
        )
        return
    snn = load(network)
    samples = options.read_data(data, task=task, entry=snn.network.entry)
    held = None
    if calibration is not None:
        sampling.refuse_test_data(calibration)
        held = options.read_data(calibration, entry=snn.network.entry)
    with output.progress(len(samples), "evaluating") as watch:
        result = snn.evaluate(
            samples, steps=wanted, engine=engine, exit_rule=exit_, calibration=held, float_model=model,
            seed=seed, device=where, watch=watch,
        )  # fmt: skip
    output.write_json(json_file, result.to_dict())
    output.write_csv(csv_file, result.to_dict()["curve"])
    output.show(curve_table(result))
    output.say(*summary_lines(result), *plain_certificate(result.certificate))


def _refuse_of_converted(network: Path, given: Mapping[str, object]) -> None:
    odd = [option for option, value in given.items() if value is not None]
    if odd:
        raise InputError(
            f"{network}: was trained through time, and {', '.join(odd)} goes with networks that "
            "convert saved; leave it out"
        )


def _in_time(
    network: Path,
    timed: tuple[DeployedNetwork, Mapping[str, Any]],
    samples: Samples,
    steps: Iterable[int] | None,
    json_file: Path | None,
) -> None:
    """Measure a network trained through time, which runs for T steps and has no integer twin."""
    folded, notes = timed
    chosen = None if steps is None else tuple(steps)
    if chosen is not None and max(chosen) > folded.steps:
        raise InputError(f"--steps {max(chosen)}: {network} was trained for {folded.steps} steps")
    x, task = sampling.fitting(samples, folded.graph), task_for(folded.graph, samples)
    found = measure_in_time(folded, x, samples.y, 0, steps=chosen, task=task)
    name = str(notes.get("model", network.stem))
    output.write_json(json_file, {"model": name, "data": samples.name, **found})
    output.say(f"{name} (trained through time) on {samples.name}, {found['n']} samples")
    output.show(in_time_table(found))
    output.say(*in_time_lines(found))
