"""``spikemorph stream``: give a network sequences one element at a time, from a saved state on."""

from pathlib import Path
from typing import Annotated

import typer

from spikemorph.graph import InputError
from spikemorph.graph.errors import Setting

from ..front.snn import load
from ..measures.streaming import run_stream
from ..report.streams import stream_lines, stream_table
from . import options, output


def stream(
    network: Annotated[Path, typer.Argument(help="A network that convert saved, or zoo:NAME.")],
    data: Annotated[
        str, typer.Option("--data", help="NAME:test:10, or FILE.npz with x (stream, element, ...).")
    ],
    state: Annotated[
        Path | None, typer.Option("--state", help="Go on from it; what --save-state wrote.")
    ] = None,
    save_state: Annotated[
        Path | None,
        typer.Option("--save-state", help="Where to keep the state after the last one."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Inner steps of an element; default: the certificate's.")
    ] = None,
    engine: Annotated[str, typer.Option(help="auto, dense or reference")] = "auto",
    task: options.TaskOption = None,
    json_file: output.JsonOption = None,
    csv_file: output.CsvOption = None,
    quiet: output.QuietOption = False,
    seed: options.SeedOption = 0,
    device: options.DeviceOption = "cpu",
) -> None:
    """Run sequences as they come: answers, spikes and steps of every element; memory stays as it is."""
    options.device(device)
    options.can_be_written(save_state, json_file, network, data, state, csv_file=csv_file)
    if steps is not None and steps < 1:
        raise InputError("give 1 or more", where=Setting("steps", steps))
    snn = load(network)
    runs = snn.stream(steps, engine)
    begun = None if state is None else runs.load(state)
    samples = options.read_data(data, task=task)
    with output.progress(samples.x.shape[1] if samples.x.dim() > 1 else 1, "streaming") as watch:
        result, after = run_stream(runs, samples, snn.name, begun, watch)
    if save_state is not None:
        after.save(save_state)
    output.write_json(json_file, result.to_dict())
    output.write_csv(csv_file, result.to_dict()["elements"])
    output.show(stream_table(result))
    output.say(*stream_lines(result))
    if save_state is not None:
        output.say(f"saved the state after element {after.elements - 1}: {save_state}")
