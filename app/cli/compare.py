"""``spikemorph compare``: networks side by side, and each in all its forms."""

from pathlib import Path
from typing import Annotated

import typer

from ..choices import by_name
from ..measures.comparison import compare_networks
from ..report.costs import comparison_table, cost_lines, price_table
from ..sources.models import network_file
from . import options, output
from .energy import DenseOption, ModelsOption, NoSeedOption, SamplesOption


def compare(
    networks: Annotated[
        list[Path], typer.Argument(help="Networks that convert saved, or zoo:NAME.")
    ],
    data: Annotated[str, typer.Option("--data", help="digits:test, FILE.npz, folder")],
    dense: DenseOption = None,
    samples: SamplesOption = 100,
    models: ModelsOption = "all",
    eps: Annotated[
        str | None,
        typer.Option(
            help="Also what is proved within it (certify), on the same --samples: 1/255,2/255"
        ),
    ] = None,
    task: options.TaskOption = None,
    json_file: output.JsonOption = None,
    csv_file: output.CsvOption = None,
    quiet: output.QuietOption = False,
    seed: NoSeedOption = 0,
    device: options.DeviceOption = "cpu",
) -> None:
    """Accuracy, spikes, operations, energy under every price list, memory; the verdict in a word."""
    where, lists = options.device(device), by_name.price_lists(models)
    options.can_be_written(None, json_file, *networks, data, dense, csv_file=csv_file)
    found = options.read_data(data, task=task)
    with output.progress(len(networks) * len(found), "measuring") as watch:
        result, costs = compare_networks(
            [network_file(n) for n in networks], found,
            dense=None if dense is None else network_file(dense), samples=samples,
            price_lists=lists, eps=() if eps is None else tuple(eps.split(",")), device=where,
            watch=watch,
        )  # fmt: skip
    output.write_json(json_file, result.to_dict())
    output.write_csv(csv_file, result.to_dict()["networks"])
    for cost in costs:
        output.show(price_table(cost))
        output.say(*cost_lines(cost), "")
    output.show(comparison_table(result))
