"""What a run starts from, by content: files may hold something else by the next run."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from spikemorph.graph import InputError
from spikemorph.graph.saving import content_hash, graph_hash
from spikemorph.zoo import Samples

from ..choices.settings import TrainingChoice
from ..sources.models import Model, load_graph
from ..training.extra import Extra
from .recipe import Recipe

Hashes = Mapping[str, str]  # SHA-256, by what it is of


def origins(
    recipe: Recipe, model: Model, train: Samples, test: Samples, extra: Extra | None
) -> dict[str, str]:
    """Hashes of the model, the data and all teachers.

    Raises
    ------
    InputError
        If the recipe would be tested on what it learns from, labels apart, or a teacher is unknown.
    """
    learnt, tested = samples_hash(train), samples_hash(test)
    asked = samples_hash(test.unlabelled())
    for samples in (train, *(() if extra is None else (extra.samples,))):
        if samples.name == test.name or samples_hash(samples.unlabelled()) == asked:
            raise InputError(
                f"{samples.name}: it would be tested on what it learns from; give test data"
            )
    if extra is not None:
        learnt = content_hash([learnt, samples_hash(extra.samples), extra.share], {})
    found = {"model": graph_hash(model.graph), "training data": learnt, "test data": tested}
    return found | {_teacher(n): graph_hash(load_graph(n).graph) for n in _teachers(recipe)}


def training_by_content(choice: TrainingChoice, hashes: Hashes) -> dict[str, Any]:
    """A training's settings as plain data, with its teacher's hash for its teacher's name."""
    plain = asdict(choice)
    return (
        plain if choice.teacher is None else plain | {"teacher": hashes[_teacher(choice.teacher)]}
    )


def _teachers(recipe: Recipe) -> list[str]:
    choices = [
        choice
        for network in recipe.network
        for choice in (recipe.training_of(network), recipe.fine_tuning_of(network))
    ]
    return sorted({choice.teacher for choice in choices if choice.teacher is not None})


def _teacher(name: str) -> str:
    return f"teacher {name}"


def samples_hash(samples: Samples) -> str:
    """SHA-256 of all that samples hold, whatever they are called."""
    return content_hash("samples", samples.tensors())
