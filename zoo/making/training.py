"""The command that trains one network of the zoo: `python -m spikemorph.zoo.making.training NAME`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from spikemorph.graph.errors import SpikemorphError
from spikemorph.train.loop import EpochRecord

from ..cache import made
from ..datasets import data_catalogue, load_data
from .recipes import RECIPES, Recipe
from .ship import ship
from .train_recipe import recipe_data, train_recipe

app = typer.Typer(add_completion=False)


@app.command()
def train(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(RECIPES)}.")],
    out: Annotated[Path, typer.Option(help="Folder for the weights and their card.")] = Path(),
    epochs: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    data_cache: Annotated[Path | None, typer.Option(help="Where downloads are kept.")] = None,
) -> None:
    """Train NAME; a stopped training goes on from OUT/NAME.checkpoint when run again."""
    if name not in RECIPES:
        raise typer.BadParameter(f"no recipe {name!r}; known: {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    try:
        if epochs is not None:
            recipe = replace(recipe, settings=replace(recipe.settings, epochs=epochs))
        _train(recipe, made(out), data_cache)
    except SpikemorphError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


def _train(recipe: Recipe, out: Path, home: Path | None) -> None:
    (entry,) = (entry for entry in data_catalogue() if entry.name == recipe.dataset)
    wanted = ("train", "test") if recipe.held_out else ("train", "validation", "test")
    parts = {s: load_data(f"{entry.name}:{s}", home=home, tell=typer.echo) for s in wanted}
    data = recipe_data(recipe, parts)
    checkpoint = out / f"{recipe.name}.checkpoint"
    trained = train_recipe(recipe, data.train, checkpoint, _show)
    card = ship(recipe, entry, data, trained, out)
    checkpoint.unlink()
    shares = ", ".join(f"{part} {share:.2f} %" for part, share in card.accuracy.items())
    typer.echo(f"{card.name}: {shares} ({card.parameters} parameters, {card.seconds:.0f} s)")


def _show(record: EpochRecord) -> None:
    typer.echo(f"epoch {record.epoch}: loss {record.loss:.4f} ({record.seconds:.1f} s)")


if __name__ == "__main__":
    app()
