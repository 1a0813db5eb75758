"""``spikemorph zoo``: the networks that are shipped or can be fetched by name."""

from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from spikemorph.zoo import load_model_card, model_catalogue
from spikemorph.zoo.derived import made_card, made_names
from spikemorph.zoo.fetched import FETCHED

from ..sources.models import known_in_zoo
from . import output
from .output import out as console

program = typer.Typer(help="Networks: list them, show one's card.")


@program.command("list")
def list_models(json_file: output.JsonOption = None, csv_file: output.CsvOption = None) -> None:
    """The shipped networks."""
    cards = model_catalogue()
    made_cards = [made_card(name).to_dict() for name in made_names()]
    rows = [*(card.to_dict() for card in cards), *made_cards]
    output.write_json(json_file, rows)
    output.write_csv(csv_file, rows)
    table = Table(box=SIMPLE_HEAD, caption="zoo show NAME prints the card")
    for heading in ("name", "data", "weights", "test %"):
        right = heading in ("weights", "test %")
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for card in cards:
        accuracy = f"{card.accuracy.get('test', float('nan')):.2f}"
        table.add_row(f"zoo:{card.name}", card.dataset, f"{card.parameters:,}", accuracy)
    for made in (made_card(name) for name in made_names()):
        table.add_row(f"zoo:{made.name}", made.dataset, f"{made.nonzero:,}", f"{made.accuracy:.2f}")
    for name, network in FETCHED.items():
        table.add_row(f"zoo:{name}", network.dataset, "fetched", "")
    console.print(table)


@program.command("show")
def show(
    name: Annotated[str, typer.Argument(help="A name that `zoo list` shows.")],
    json_file: output.JsonOption = None,
    quiet: output.QuietOption = False,
) -> None:
    """One network's card: data, training command, accuracy, licence."""
    plain = known_in_zoo(name.removeprefix("zoo:"))
    if plain in FETCHED:
        card = FETCHED[plain].to_dict()
    else:
        found = made_card(plain) if plain in made_names() else load_model_card(plain)
        card = found.to_dict()
    output.write_json(json_file, card)
    table = Table(show_header=False)
    for key, value in card.items():
        table.add_row(key, str(value))
    console.print(table)
