"""Carry out a recipe on its data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from spikemorph.graph.brief import brief_repr
from spikemorph.graph.errors import InputError
from spikemorph.graph.grid import Interval
from spikemorph.graph.tasks import Task
from spikemorph.train import DataTensors, fit, hold_out, initialised
from spikemorph.train.data import SequenceData
from spikemorph.train.fabric import make_fabric
from spikemorph.train.loop import EpochRecord
from spikemorph.train.measure import score
from spikemorph.train.objectives import TaskLoss

from ..architectures import ARCHITECTURES
from ..samples import Samples
from .recipes import Recipe


@dataclass(frozen=True)
class RecipeData:
    """The samples to learn from, those held out of them, and those kept for the very end."""

    train: DataTensors
    validation: DataTensors
    test: DataTensors

    __repr__ = brief_repr


def recipe_data(recipe: Recipe, parts: Mapping[str, Samples]) -> RecipeData:
    """Samples in the network's units, by part; those to validate on are held out as the recipe says."""
    train, *others = (_labelled(recipe, part) for part in parts.values())
    if recipe.held_out:
        generator = torch.Generator().manual_seed(recipe.settings.seed)
        train, held = hold_out(train, recipe.held_out, generator)
        others = [held, *others]
    return RecipeData(train, *others)


def _labelled(recipe: Recipe, samples: Samples) -> DataTensors:
    if samples.y is None:
        raise InputError(f"{samples.name}: no labels to learn from; give samples with labels")
    x = samples.values(Interval.of(*recipe.inputs))
    if samples.lengths is None:
        return DataTensors(x, samples.y)
    return SequenceData(x, samples.y, samples.lengths)


def train_recipe(
    recipe: Recipe,
    train: DataTensors,
    checkpoint: Path | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> tuple[nn.Module, tuple[EpochRecord, ...]]:
    """Train the recipe's network from its first weights, or go on from the checkpoint."""
    generator = torch.Generator().manual_seed(recipe.settings.seed)
    model = initialised(ARCHITECTURES[recipe.name], generator)
    records = fit(
        model,
        train,
        recipe.settings,
        objective=TaskLoss(_task(recipe, model, train), recipe.smoothing),
        augment=recipe.augment,
        checkpoint=checkpoint,
        on_epoch=on_epoch,
        fabric=make_fabric(precision=recipe.precision),
    )
    return model, records


def measured(recipe: Recipe, model: nn.Module, data: RecipeData) -> dict[str, float]:
    """Percentage right on each part of the data."""
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    task = _task(recipe, model, data.train)
    return {name: round(score(model, part, task), 3) for name, part in parts.items()}


@torch.no_grad()
def _task(recipe: Recipe, model: nn.Module, data: DataTensors) -> Task:
    """What the network's outputs answer, by their shape."""
    was_training = model.training
    shape = tuple(model.eval()(data.x[:1]).shape[1:])
    model.train(was_training)
    return Task(recipe.answers, shape)
