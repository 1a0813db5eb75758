"""Pruning under attack: masks are kept, networks more robust; objectives by name in the front door."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from spikemorph.choices import by_name
from spikemorph.choices.settings import TrainingChoice
from spikemorph.cli import main
from spikemorph.graph import Graph, Input, InputError
from spikemorph.graph.grid import Interval
from spikemorph.layers.masks import masks_of, weight_of
from spikemorph.prune import Lesson, PruneTask, layer_sparsities, prune_graph
from spikemorph.prune.harp import Harp
from spikemorph.prune.hydra import Hydra
from spikemorph.prune.magnitude import Magnitude
from spikemorph.prune.rewiring_methods import Bcs, DeepR, Rigl
from spikemorph.prune.task import Method
from spikemorph.recipes.recipe import recipe_of
from spikemorph.robust.training.epoch_selection import FinalWeights, RobustSelection
from spikemorph.robust.training.inner_attack import Ascent
from spikemorph.robust.training.objectives import (
    FastAdversarial,
    Mart,
    PgdTraining,
    RfgsmKl,
    Trades,
)
from spikemorph.sources.models import Model, load_graph
from spikemorph.train import DataTensors, GraphModule, TrainSettings, hold_out
from spikemorph.train.averaging import Ema, Swa
from spikemorph.train.checkpoint import load_checkpoint
from spikemorph.training.settings import lesson_of
from spikemorph.zoo.datasets import load_data

EPS = 0.15
METHODS: dict[str, Method] = {
    "magnitude": Magnitude(),
    "hydra": Hydra(),
    "harp": Harp(gamma=2.0),  # a short run has to reach its target
    "bcs": Bcs(),
    "deepr": DeepR(),
    "rigl": Rigl(every=7),
}


@pytest.fixture(scope="module")
def dense() -> Graph:
    return model().graph


@pytest.fixture(scope="module")
def digits() -> tuple[DataTensors, DataTensors]:
    """To learn from, and held out."""
    found = load_data("digits:train:900")
    assert found.y is not None
    data = DataTensors(found.values(), found.y)
    return hold_out(data, 300, torch.Generator().manual_seed(0))


def lesson(data: DataTensors, epochs: int = 8) -> Lesson:
    settings = TrainSettings(epochs=epochs, batch=64, rate=0.1)
    return Lesson(data, settings, FastAdversarial(EPS, 1.25 * EPS))


@pytest.mark.parametrize("name", METHODS)
def test_an_adversarial_objective_prunes_to_more_robust_networks(
    dense: Graph, digits: tuple[DataTensors, DataTensors], name: str
) -> None:
    """Masks hold exactly their share and were kept to the end (`layer_sparsities` proves it)."""
    learn, held = digits
    judge, scores = RobustSelection(held, Ascent(EPS, 5, 0.06)), []
    robustly = lesson(learn)
    for each in (Lesson(learn, robustly.settings), robustly):
        graph = prune_graph(METHODS[name], PruneTask(dense, 0.7, lesson=each))
        layers = layer_sparsities(graph)
        kept, whole = sum(layer.kept for layer in layers), sum(layer.weights for layer in layers)
        assert kept == pytest.approx(0.3 * whole, abs=len(layers))
        for node, mask in masks_of(graph).items():
            assert not weight_of(graph[node])[~mask].any()
        scores.append(judge.score(GraphModule(graph)).robust)
    clean, robust = scores
    assert robust >= clean + 10


@pytest.mark.parametrize("name", ["magnitude", "rigl", "bcs"])
def test_pruning_ends_with_the_epoch_or_average_that_is_asked_for(
    dense: Graph, digits: tuple[DataTensors, DataTensors], tmp_path: Path, name: str
) -> None:
    """The network that comes out is as robust as the best epoch was found to be, under its own mask."""
    learn, held = digits
    judge = RobustSelection(held, Ascent(EPS, 3, 0.06))
    final = FinalWeights(None if name == "rigl" else Ema(0.9), judge)
    path = tmp_path / "run"
    given = replace(lesson(learn, epochs=4), ending=final, checkpoint=path)
    graph = prune_graph(METHODS[name], PruneTask(dense, 0.7, lesson=given))
    layer_sparsities(graph)
    (file,) = tmp_path.glob("*.best")
    scores = load_checkpoint(file)["scores"]
    assert len(scores) == 4
    found = judge.score(GraphModule(graph)).robust
    assert found == pytest.approx(max(score["robust"] for score in scores))


def test_gradual_pruning_ends_with_an_epoch_at_its_sparsity(
    dense: Graph, digits: tuple[DataTensors, DataTensors], tmp_path: Path
) -> None:
    """Epochs in which weights were still to go are more robust, and not what was asked for."""
    learn, held = digits
    final = FinalWeights(None, RobustSelection(held, Ascent(EPS, 3, 0.06)))
    given = replace(lesson(learn, epochs=5), ending=final, checkpoint=tmp_path / "run")
    graph = prune_graph("gradual", PruneTask(dense, 0.9, lesson=given))
    layers = layer_sparsities(graph)
    kept, whole = sum(layer.kept for layer in layers), sum(layer.weights for layer in layers)
    assert kept == pytest.approx(0.1 * whole, abs=len(layers))
    (file,) = tmp_path.glob("*.best")
    scores = load_checkpoint(file)["scores"]
    assert [score["epoch"] for score in scores] == [3, 4, 5]


def choice(**given: object) -> TrainingChoice:
    return TrainingChoice(epochs=1, smoothing=0.0, **given)  # type: ignore[arg-type]


@cache
def model() -> Model:
    return load_graph("zoo:digits_mlp")


def made(**given: object) -> Lesson:
    return lesson_of(choice(**given), load_data("digits:train:100"), model(), 0)[0]


def test_objectives_by_name() -> None:
    e = 8 / 255
    assert made(objective="pgd", eps="8/255").objective == PgdTraining(e, 10, e / 4)
    assert made(objective="trades", eps=0.1, attack_steps=5).objective == Trades(0.1, 5, 0.05)
    assert made(objective="mart", eps=0.1, beta=2.0).objective == Mart(0.1, 10, 0.025, beta=2.0)
    assert made(objective="fast", eps=0.1).objective == FastAdversarial(0.1, 0.125)
    assert made(objective="rfgsm", eps=0.1, beta=3.0).objective == RfgsmKl(0.1, 0.05, beta=3.0)
    assert made().ending is None
    assert made(average="swa").ending == FinalWeights(Swa(), None)
    ending = made(objective="pgd", eps=0.1, select=True, held_out=20).ending
    assert isinstance(ending, FinalWeights) and ending.selection is not None
    assert len(ending.selection.validation) == 20
    assert ending.selection.ascent == Ascent(0.1, 10, 0.025)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"objective": "at"}, "objective='at': choose one of clean, pgd, trades"),
        ({"objective": "pgd"}, "objective pgd attacks; say how strongly"),
        ({"objective": "pgd", "eps": "8"}, r"eps='8': .* did you mean 8/255"),
        ({"eps": "8/255"}, "objective clean attacks nothing"),
        ({"select": True, "held_out": 9}, "objective clean attacks nothing"),
        ({"objective": "pgd", "eps": 0.1, "beta": 6.0}, "objective pgd has no beta"),
        ({"objective": "fast", "eps": 0.1, "attack_steps": 7}, "takes a single step"),
        ({"objective": "trades", "eps": 0.1, "attack_steps": -1}, "-1 attack steps"),
        ({"objective": "trades", "eps": 0.1, "distil": 0.5}, "a teacher of clean images"),
        ({"objective": "pgd", "eps": 0.1, "select": True}, "give held_out"),
        ({"average": "mean"}, "average='mean': choose one of none, swa, ema"),
    ],
)
def test_choices_that_contradict_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        made(**given)


def test_an_attack_needs_inputs_from_zero_to_one() -> None:
    graph = model().graph
    signed = replace(graph[graph.inputs[0]], op=Input((1, 8, 8), Interval.of(-1, 1)))
    wide = Model("signed", graph.substitute(signed.name, signed))
    with pytest.raises(
        InputError, match=r"eps counts in inputs of 0..1, and the model's are -1..1"
    ):
        lesson_of(choice(objective="pgd", eps=0.1), load_data("digits:train:100"), wide, 0)


@pytest.mark.parametrize(
    ("text", "value"), [("8/255", 8 / 255), ("0.03", 0.03), (0.5, 0.5), ("0.99", 0.99), ("0", 0.0)]
)
def test_eps_is_read_as_a_fraction_or_a_decimal(text: str | float, value: float) -> None:
    assert by_name.eps_of(text) == value


@pytest.mark.parametrize("text", ["8", "-0.1", "1/0", "8/-255", "nan", "inf", "a/b", "", "8//255"])
def test_eps_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="^eps"):
        by_name.eps_of(text)


def test_a_recipe_may_train_robustly() -> None:
    plain = {
        "name": "r", "model": "m", "data": {"train": "a", "test": "b"},
        "training": {"objective": "trades", "eps": "8/255", "beta": 6, "average": "ema"},
        "network": [{"name": "n", "method": "hydra", "training": {"eps": 0.1, "select": True}}],
    }  # fmt: skip
    recipe = recipe_of(plain, "here")
    found = recipe.training_of(recipe.network[0])
    assert (found.objective, found.eps, found.beta, found.select) == ("trades", 0.1, 6.0, True)


def test_the_command_prunes_robustly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "prune zoo:digits_mlp --sparsity 0.5 --data digits:train:120 --epochs 2 --held-out 20"
    robust = "--objective trades --eps 8/255 --attack-steps 2 --beta 3 --average ema --select"
    files = ["--out", tmp_path / "p.safetensors", "--json", tmp_path / "p.json"]
    more = ["--checkpoint", tmp_path / "c"]
    line = ["spikemorph", *words.split(), *robust.split(), *map(str, files + more)]
    monkeypatch.setattr("sys.argv", line)
    assert main() == 0, capsys.readouterr().err
    assert json.loads((tmp_path / "p.json").read_text())["zeros"] == pytest.approx(0.5, abs=0.01)
    assert {path.name for path in tmp_path.iterdir()} == {"p.json", "p.safetensors"}
    monkeypatch.setattr("sys.argv", [*line, "--eps", "8"])
    assert main() == 2
    assert "did you mean 8/255" in capsys.readouterr().err
