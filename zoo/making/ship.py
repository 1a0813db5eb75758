"""Write a trained network as it is shipped: its weights and its card."""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from safetensors.torch import save
from torch import nn

from spikemorph.graph.saving import write_bytes
from spikemorph.train.loop import EpochRecord

from ..cards import ModelCard
from ..data_card import DataSet
from ..fetch import sha256_of
from .recipes import RECIPES, Recipe
from .train_recipe import RecipeData, measured

_PACKAGES = ("torch", "lightning-fabric", "numpy", "spikemorph")


def ship(
    recipe: Recipe,
    entry: DataSet,
    data: RecipeData,
    trained: tuple[nn.Module, Sequence[EpochRecord]],
    folder: Path,
) -> ModelCard:
    """Write `NAME.safetensors`, a plain state dict, and `NAME.json`, its card."""
    model, records = trained
    content = save({name: value.contiguous() for name, value in model.state_dict().items()})
    card = ModelCard(
        name=recipe.name,
        architecture=recipe.name,
        dataset=recipe.dataset,
        input_shape=entry.shape,
        input_range=recipe.inputs,
        classes=entry.classes,
        command=_command(recipe),
        settings=settings_of(recipe),
        seed=recipe.settings.seed,
        epochs=recipe.settings.epochs,
        accuracy=measured(recipe, model, data),
        seconds=round(sum(record.seconds for record in records), 1),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        licence="Apache-2.0",
        data_licence=entry.licence,
        sha256=sha256_of(content),
        versions={"python": platform.python_version()} | {p: version(p) for p in _PACKAGES},
    )
    text = json.dumps(card.to_dict(), indent=2) + "\n"
    write_bytes(folder / f"{recipe.name}.safetensors", content)
    write_bytes(folder / f"{recipe.name}.json", text.encode())
    return card


def _command(recipe: Recipe) -> str:
    epochs = recipe.settings.epochs
    usual = epochs == RECIPES[recipe.name].settings.epochs
    option = "" if usual else f" --epochs {epochs}"
    return f"python -m spikemorph.zoo.making.training {recipe.name}{option}"


def settings_of(recipe: Recipe) -> dict[str, object]:
    """The recipe's numbers, as the card holds them."""
    augment = None if recipe.augment is None else asdict(recipe.augment)
    return {
        **asdict(recipe.settings),
        "smoothing": recipe.smoothing,
        "augment": augment,
        "held_out": recipe.held_out,
        "precision": recipe.precision,
        "answers": str(recipe.answers),
    }
