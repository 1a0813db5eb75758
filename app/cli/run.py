"""``spikemorph run``: a whole recipe, from a trained model to certified networks and a report."""

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from spikemorph.graph import InputError
from spikemorph.train.processes import Processes

from ..recipes.pipeline import ROBUST, run_recipe
from ..recipes.recipe import read_recipe, with_seed
from ..report.costs import comparison_table
from ..report.robust import robust_networks_table
from . import options, output
from .meter import meter
from .wording import in_keys


def run(
    recipe: Annotated[Path, typer.Argument(help="A recipe (.toml); see recipes/.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the run; default runs/NAME.")
    ] = None,
    json_file: output.JsonOption = None,
    csv_file: output.CsvOption = None,
    quiet: output.QuietOption = False,
    seed: Annotated[int | None, typer.Option(help="Instead of the recipe's.", min=0)] = None,
    device: options.DeviceOption = "cpu",
) -> None:
    """Prune, train, convert, prove, measure, price, report; goes on where a stopped run ended."""
    options.can_be_written(None, json_file, recipe, csv_file=csv_file)
    if (world := Processes.from_environment().world) > 1:
        raise InputError(
            f"run is one process, not {world}: share trainings (prune, finetune) and evaluations "
            "(attack --folder) with torchrun"
        )
    with in_keys():
        found = with_seed(read_recipe(recipe), seed)
    folder = out or Path("runs") / found.name
    words = ["spikemorph", "run", str(recipe)]
    words += [] if out is None else ["--out", str(out)]
    words += [] if seed is None else ["--seed", str(seed)]
    words += [] if device == "cpu" else ["--device", device]
    where = options.device(device)
    with in_keys(), meter() as watch:
        result = run_recipe(
            found, folder, shlex.join(words), read=options.read_data, device=where,
            tell=output.tell, watch=watch,
        )  # fmt: skip
    plain = result.to_dict()
    output.show(comparison_table(result))
    if found.attack is not None:
        plain["robust"] = json.loads((folder / ROBUST).read_text())
        output.show(robust_networks_table(plain["robust"]))
    output.write_json(json_file, plain)
    output.write_csv(csv_file, plain["networks"])
    for network in result.networks:
        output.say(f"saved {folder / network.name / 'report.html'}")
    output.say(f"saved {folder / 'index.html'}")
