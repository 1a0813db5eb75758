"""Recipes of an architecture without weights: the same every time, behind its normalisation."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from spikemorph.graph import InputError
from spikemorph.graph.saving import graph_hash, load_graph_file
from spikemorph.layers.affine import ScaleShift
from spikemorph.recipes import pipeline
from spikemorph.recipes.pipeline import run_recipe
from spikemorph.recipes.recipe import Recipe, recipe_of
from spikemorph.recipes.stages.attack import undefended
from spikemorph.recipes.stages.bench import Bench
from spikemorph.sources.models import Model, load_graph
from spikemorph.train import GraphModule
from spikemorph.zoo import load_data

FACTORY = "spikemorph.zoo.architectures:digits_mlp"
PLAIN: dict[str, Any] = {
    "name": "new",
    "model": FACTORY,
    "input_shape": [1, 8, 8],
    "mean": [0.25],
    "std": [0.5],
    "data": {"train": "digits:train:200", "test": "digits:test:40"},
    "training": {"epochs": 1},
    "measure": {"energy": 5, "spiking": 5},
    "network": [{"name": "dense", "method": "train", "fresh": True}],
}


def recipe(**changed: Any) -> Recipe:
    return recipe_of({**PLAIN, **changed}, "new.toml")


def bench(of: Recipe, model: Model, folder: Path) -> Bench:
    train, test = load_data(of.data.train), load_data(of.data.test)
    return Bench(of, of.network[0], model, train, test, folder, None, lambda line: None)


def test_a_factorys_first_weights_are_the_same_every_time_and_leave_the_generator_alone() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one = load_graph(FACTORY, input_shape=(1, 1, 8, 8))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    other = load_graph(FACTORY, input_shape=(1, 1, 8, 8))
    assert graph_hash(one.graph) == graph_hash(other.graph)


def test_a_second_run_finds_everything_done_and_the_normalisation_inside(tmp_path: Path) -> None:
    told: list[str] = []
    run_recipe(recipe(), tmp_path, "spikemorph run new.toml", tell=told.append)
    torch.manual_seed(7)  # first weights do not depend on it
    again: list[str] = []
    run_recipe(recipe(), tmp_path, "spikemorph run new.toml", tell=again.append)
    stages = ("prune", "convert", "measure", "energy")
    assert "inputs are taken to lie in 0..1" in again[0]
    assert again[1:] == [f"dense: {stage} was done before" for stage in stages]
    graph = load_graph_file(tmp_path / "dense" / "model.safetensors")
    (scale,) = [node.op for node in graph.nodes if isinstance(node.op, ScaleShift)]
    x = torch.tensor([0.0, 0.25, 1.0]).reshape(3, 1, 1, 1)
    assert scale(x).flatten().tolist() == [-0.5, 0.0, 1.5]  # (x - 1/4) / (1/2)


def test_the_model_is_the_factorys_behind_its_normalisation() -> None:
    inner = load_graph(FACTORY, input_shape=(1, 1, 8, 8)).graph
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found = GraphModule(pipeline._model(recipe()).graph).eval()(x)
    torch.testing.assert_close(found, GraphModule(inner).eval()((x - 0.25) / 0.5))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"input_shape": []}, ("digits_mlp", "input_shape")),
        ({"input_shape": [1, 0, 8]}, ("input_shape [1, 0, 8]", "1 or more")),
        ({"input_shape": [1.5]}, ("input_shape[0]", "int")),
        ({"mean": [0.1, 0.2]}, ("'new'", "mean, std: 1 number each")),
        ({"std": []}, ("'new'", "mean and std")),
        ({"std": [0.0]}, ("'new'", "above zero")),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_made(
    tmp_path: Path, changed: dict[str, Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(InputError) as caught:
        run_recipe(recipe(**changed), tmp_path / "run", "spikemorph run new.toml")
    assert not (tmp_path / "run").exists()
    for word in words:
        assert word in str(caught.value)


def test_only_a_trained_model_serves_as_the_undefended_network(tmp_path: Path) -> None:
    new = recipe()
    assert new.untrained
    model = pipeline._model(new)
    assert undefended(bench(new, model, tmp_path)) is None
    used = replace(new, network=(replace(new.network[0], fresh=False),))  # its weights are used
    shipped = recipe(model="zoo:digits_mlp", input_shape=[], mean=[], std=[])
    assert not used.untrained
    assert not shipped.untrained
    trained = bench(shipped, load_graph("zoo:digits_mlp"), tmp_path)
    assert undefended(trained) is not None
