"""The shipped recipes: each is read, and nothing in it would be refused after hours."""

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from spikemorph.graph import Graph, InputError
from spikemorph.graph.grid import UNIT
from spikemorph.layers.activation import ReLU
from spikemorph.layers.linear import Linear
from spikemorph.layers.shape import Reshape
from spikemorph.recipes.recipe import Recipe, read_recipe
from spikemorph.recipes.stages.bench import Bench
from spikemorph.recipes.stages.order import check
from spikemorph.sources.models import Model
from spikemorph.zoo import Samples, load_model_card
from spikemorph.zoo.architectures import UNTRAINED

FOLDER = Path(__file__).parents[3] / "recipes"
FILES = sorted(FOLDER.glob("*.toml"))

each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def shape_of(recipe: Recipe) -> tuple[int, ...]:
    """One sample's shape: the recipe's, or that of the shipped network."""
    if recipe.input_shape:
        return recipe.input_shape
    return load_model_card(recipe.model.removeprefix("zoo:")).input_shape


def small(chain: Callable[..., Graph], shape: tuple[int, ...]) -> Model:
    """Two linear layers in place of the recipe's network: names and numbers are checked alike."""
    size = int(torch.tensor(shape).prod())
    first, last = (torch.full(s, 0.01) for s in ((4, size), (10, 4)))
    graph = chain(shape, Reshape((size,)), Linear(first, None), ReLU(), Linear(last, None))
    return Model("small", graph.declare(UNIT))


def samples(name: str, recipe: Recipe, shape: tuple[int, ...]) -> Samples:
    """Black images, more than the recipe holds out."""
    count = 10 + max(recipe.training.held_out, recipe.fine_tuning.held_out)
    return Samples(name, torch.zeros(count, *shape, dtype=torch.uint8), torch.arange(count) % 10)


@each_file
def test_a_recipe_is_called_as_its_file_and_says_how_it_is_run(file: Path) -> None:
    assert read_recipe(file).name == file.stem
    assert f"#     spikemorph run recipes/{file.name}" in file.read_text()


@each_file
def test_the_model_of_a_recipe_is_there(file: Path) -> None:
    recipe = read_recipe(file)
    if recipe.model.startswith("zoo:"):
        assert load_model_card(recipe.model.removeprefix("zoo:"))
        assert not recipe.untrained
        return
    place, _, name = recipe.model.partition(":")
    assert getattr(importlib.import_module(place), name) is UNTRAINED[name]
    assert recipe.untrained


@each_file
def test_nothing_in_a_recipe_is_refused_once_it_runs(
    file: Path, chain: Callable[..., Graph], tmp_path: Path
) -> None:
    recipe = read_recipe(file)
    shape = shape_of(recipe)
    model, train = small(chain, shape), samples("train", recipe, shape)
    test = train.take(10)
    for network in recipe.network:
        bench = Bench(recipe, network, model, train, test, tmp_path, None, lambda line: None)
        check(bench)


def test_the_check_can_fail(chain: Callable[..., Graph], tmp_path: Path) -> None:
    text = (FOLDER / "robust-cifar.toml").read_text().replace('"fast"', '"fastest"')
    (tmp_path / "robust-cifar.toml").write_text(text)
    recipe = read_recipe(tmp_path / "robust-cifar.toml")
    shape = shape_of(recipe)
    model, train = small(chain, shape), samples("train", recipe, shape)
    first = recipe.network[0]
    bench = Bench(recipe, first, model, train, train, tmp_path, None, lambda line: None)
    with pytest.raises(InputError, match=r"network 'dense': .*fastest"):
        check(bench)


def test_the_papers_recipe_has_the_papers_numbers() -> None:
    """arXiv 2505.15833, section 4.1 and appendix A.2."""
    recipe = read_recipe(FOLDER / "robust-cifar-vgg16.toml")
    dense = recipe.training
    found = (dense.epochs, dense.rate, dense.decay, dense.objective, dense.eps, dense.beta)
    assert found == (100, 0.1, 1e-4, "trades", "2/255", 2.0)
    assert (recipe.time.steps, recipe.time.leak, recipe.time.reset) == (8, 1.0, "hard")
    assert (recipe.time.percentile, recipe.time.scale) == (99.7, 0.3)
    pruned = {n.method: n.sparsity for n in recipe.network if n.sparsity}
    assert pruned == {"hydra": 0.9, "harp": 0.99}
    for network in recipe.network:
        if network.road == "through-time":
            later = recipe.fine_tuning_of(network)
            assert (later.epochs, later.rate, later.decay) == (80, 1e-3, 1e-4)
            assert (later.objective, later.eps, later.beta) == ("rfgsm", "2/255", 2.0)
