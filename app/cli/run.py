"""``spikemorph run``: a whole recipe, from a trained model to certified networks and a report."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from spikemorph.graph import InputError
from spikemorph.train.processes import Processes

from ..measures.comparison import Comparison
from ..measures.spread import Spread, spread_of
from ..recipes.pipeline import ROBUST, run_recipe
from ..recipes.recipe import Recipe, read_recipe, with_seed
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
    seeds: Annotated[
        str | None,
        typer.Option(help="0..4 or 1,5,7: a run for each, and mean and deviation of them all."),
    ] = None,
    device: options.DeviceOption = "cpu",
) -> None:
    """Prune, train, convert, prove, measure, price, report; goes on where a stopped run ended."""
    options.can_be_written(None, json_file, recipe, csv_file=csv_file)
    if (world := Processes.from_environment().world) > 1:
        raise InputError(
            f"run is one process, not {world}: share trainings (prune, finetune) and evaluations "
            "(attack --folder) with torchrun"
        )
    if seed is not None and seeds is not None:
        raise InputError("--seed and --seeds: give one of them")
    with in_keys():
        found = read_recipe(recipe)
    folder, where = out or Path("runs") / found.name, options.device(device)
    if seeds is None:
        _, plain = _once(recipe, with_seed(found, seed), folder, out, seed, where)
        output.write_csv(csv_file, plain["networks"])
    else:
        wanted = options.seeds(seeds)
        places = [folder / f"seed-{number}" for number in wanted]
        runs = [
            _once(recipe, with_seed(found, number), place, place, number, where)
            for number, place in zip(wanted, places, strict=True)
        ]
        spread = spread_of([result for result, _ in runs])
        rows = [
            {"name": name, **{key: asdict(value) for key, value in numbers.items()}}
            for name, numbers in spread.items()
        ]
        plain = {"seeds": wanted, "networks": rows, "runs": [one for _, one in runs]}
        output.write_csv(csv_file, rows)
        output.show(_spread_table(spread, wanted))
    output.write_json(json_file, plain)


def _once(
    file: Path,
    recipe: Recipe,
    folder: Path,
    out: Path | None,
    seed: int | None,
    where: torch.device,
) -> tuple[Comparison, dict[str, Any]]:
    """One run, shown and saved; what it gave, and the same as plain data."""
    words = ["spikemorph", "run", str(file)]
    words += [] if out is None else ["--out", str(out)]
    words += [] if seed is None else ["--seed", str(seed)]
    words += [] if where.type == "cpu" else ["--device", str(where)]
    with in_keys(), meter() as watch:
        result = run_recipe(
            recipe, folder, shlex.join(words), read=options.read_data, device=where,
            tell=output.tell, watch=watch,
        )  # fmt: skip
    plain = result.to_dict()
    output.show(comparison_table(result))
    if recipe.attack is not None:
        plain["robust"] = json.loads((folder / ROBUST).read_text())
        output.show(robust_networks_table(plain["robust"]))
    for network in result.networks:
        output.say(f"saved {folder / network.name / 'report.html'}")
    output.say(f"saved {folder / 'index.html'}")
    return result, plain


def _spread_table(spread: Mapping[str, Mapping[str, Spread]], seeds: Sequence[int]) -> Table:
    """Networks in rows: mean and deviation over seeds."""
    table = Table(title=f"mean ± deviation over {len(seeds)} seeds", box=SIMPLE_HEAD)
    shown = {"accuracy": "accuracy %", "sparsity": "sparsity %", "steps": "steps",
             "spikes_per_inference": "spikes"}  # fmt: skip
    for heading in ("name", *shown.values()):
        table.add_column(heading, no_wrap=True)
    for name, numbers in spread.items():
        table.add_row(name, *(str(numbers.get(key, "")) for key in shown))
    return table
