"""What the stages of one network work with, and what several of them ask for."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from spikemorph.graph import Graph, InputError
from spikemorph.graph.plain import read_plain
from spikemorph.graph.saving import load_graph_file, write_bytes
from spikemorph.prune import Lesson
from spikemorph.train import DataTensors
from spikemorph.zoo import Samples

from ...choices.settings import TrainingChoice
from ...measures.robustness import Progress
from ...sources.models import Model
from ...sources.sampling import values
from ...sources.subjects import CPU
from ...training.extra import Extra
from ...training.settings import lesson_of
from ..recipe import NetworkChoice, Recipe

Tell = Callable[[str], None]
Watch = Callable[[Progress], None]
CHECKPOINT = "checkpoint"
STAMPS = "stages.json"


@dataclass(frozen=True)
class Bench:
    """What the stages of one network work with."""

    recipe: Recipe
    network: NetworkChoice
    model: Model
    train: Samples
    test: Samples
    folder: Path
    dense: Path | None  # the folder of the recipe's un-pruned network, made before this one
    tell: Tell
    start: Path | None = None  # the folder of the network that this one goes on from
    extra: Extra | None = None  # samples that trainings have a share of
    stamp: str = ""  # the hash of all that the stage at work depends on
    device: torch.device = CPU  # of trainings and attacks; what is stored is on the CPU
    watch: Watch = lambda _: None  # told how far a long stage is

    @property
    def source(self) -> Graph:
        """The float graph that this network is made from."""
        if self.start is None:
            return self.model.graph
        return load_graph_file(self.start / "model.safetensors")

    def write(self, part: str, plain: Any) -> None:
        """Write one part of the run as JSON."""
        write_part(self.folder / f"{part}.json", plain)

    def test_values(self, most: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The first test samples, all where `most` is 0."""
        samples = self.test.take(min(most, len(self.test))) if most else self.test
        return values(samples, self.model.entry), samples.y


@contextmanager
def naming(bench: Bench) -> Iterator[None]:
    """Say of which recipe and network an error is."""
    try:
        yield
    except InputError as error:
        raise error.under(
            f"recipe {bench.recipe.name!r}, network {bench.network.name!r}"
        ) from error


def clear(bench: Bench) -> None:
    """Remove what only a stopped training needed."""
    for leftover in bench.folder.glob(f"{CHECKPOINT}-*"):
        leftover.unlink()


def lesson_on(
    bench: Bench, choice: TrainingChoice, graph: Graph
) -> tuple[Lesson, DataTensors | None]:
    """What a network's weights are trained on, and the samples held out of it.

    A checkpoint is only taken up by a stage of the same stamp; the network as it was before teaches,
    unless another is named.
    """
    name = bench.network.name
    return lesson_of(
        choice, bench.train, replace(bench.model, graph=graph), bench.recipe.seed,
        extra=bench.extra,
        checkpoint=bench.folder / f"{CHECKPOINT}-{bench.stamp[:16]}", device=bench.device,
        tell=lambda record: bench.tell(
            f"{name}: epoch {record.epoch}: loss {record.loss:.4f} ({record.seconds:.0f} s)"
        ),
    )  # fmt: skip


def fine_tuning_lesson(bench: Bench, graph: Graph) -> tuple[Lesson, DataTensors | None]:
    """What a network's weights are fine-tuned on, by its road."""
    return lesson_on(bench, bench.recipe.fine_tuning_of(bench.network), graph)


def stamps_of(folder: Path) -> dict[str, str]:
    """What the stages in a folder were made with; nothing, where none was done."""
    path = folder / STAMPS
    if not path.is_file():
        return {}
    found = read_part(path)
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise InputError(f"{path}: holds no stages; delete it to make this network again")
    return found


def read_part(path: Path) -> Any:
    """A part of a run, as plain data."""
    try:
        return read_plain(path.read_bytes(), path)
    except (OSError, InputError) as error:
        raise InputError(f"{error}; delete {path} and run again: it is made again") from error


def write_part(path: Path, plain: Any) -> None:
    """Write a part of a run, whole or not at all; `read_part` reads it."""
    write_bytes(path, (json.dumps(plain, indent=1) + "\n").encode())
