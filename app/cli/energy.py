"""``spikemorph energy``: exact counts of a network, priced by many models; memory."""

from pathlib import Path
from typing import Annotated

import typer

from spikemorph.graph import InputError

from ..choices import by_name
from ..front.snn import load
from ..report.costs import cost_lines, price_table
from . import options, output

NoSeedOption = Annotated[
    int, typer.Option("--seed", help="As every command takes; nothing is drawn here.")
]
SamplesOption = Annotated[int, typer.Option(help="How many samples are counted on.")]
DenseOption = Annotated[
    Path | None,
    typer.Option(
        "--against", "--dense", help="The network un-pruned; else its own spikes, all weights."
    ),
]
ModelsOption = Annotated[
    str, typer.Option(help=f"all, or some of {', '.join(by_name.PRICE_LISTS)}")
]


def estimate(
    network: Annotated[Path, typer.Argument(help="A network that convert saved, or zoo:NAME.")],
    data: Annotated[str, typer.Option("--data", help="digits:test, FILE.npz, folder")],
    dense: DenseOption = None,
    samples: SamplesOption = 100,
    steps: Annotated[
        int | None, typer.Option(help="Default: what the certificate requires.")
    ] = None,
    models: ModelsOption = "all",
    task: options.TaskOption = None,
    json_file: output.JsonOption = None,
    csv_file: output.CsvOption = None,
    quiet: output.QuietOption = False,
    seed: NoSeedOption = 0,
    device: options.DeviceOption = "cpu",
) -> None:
    """Count synaptic operations, spikes and updates exactly; price them; say what is stored."""
    options.device(device)
    options.can_be_written(None, json_file, network, data, dense, csv_file=csv_file)
    if steps is not None and not 1 <= steps <= 100_000:
        raise InputError(f"--steps {steps}: give a whole number above zero, 100000 at most")
    by_name.price_lists(models)  # refused before anything is read
    snn, other = load(network), None if dense is None else load(dense)
    found = options.read_data(data, max(samples, 1), task, snn.network.entry)
    result = snn.energy(found, samples=samples, steps=steps, models=models, dense=other)
    output.write_json(json_file, result.to_dict())
    output.write_csv(csv_file, result.to_dict()["prices"])
    output.show(price_table(result))
    output.say(*cost_lines(result))
