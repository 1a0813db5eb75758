"""What is refused before an attack, and what tells one evaluation from another."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import refused
from torch import Tensor, nn

from spikemorph import convert_graph
from spikemorph.convert import read_torch
from spikemorph.graph import Graph, Input, InputError, Node, UnsupportedError
from spikemorph.graph.grid import Grid
from spikemorph.graph.saving import save_graph
from spikemorph.quant import Quantisation
from spikemorph.recipes.pipeline import run_recipe
from spikemorph.recipes.recipe import recipe_of
from spikemorph.robust import Threat
from spikemorph.robust.gates.context import GateContext, GateSettings, Samples
from spikemorph.robust.gates.gate import gates
from spikemorph.robust.paths.exact import exact_target
from spikemorph.sources.models import load_graph
from spikemorph.spiking import save_network
from spikemorph.spiking.neurons import IF
from spikemorph.zoo import load_data

Run = Callable[..., tuple[int, str, str]]


def shown(n: int = 200) -> Tensor:
    return load_data(f"digits:train:{n}").values()


def test_spikes_that_may_differ_from_integers_are_not_attacked_as_if_they_did_not(
    spikemorph: Run, tmp_path: Path
) -> None:
    graph = load_graph("zoo:digits_mlp").graph
    made = convert_graph(
        graph, shown(), grid=Grid.of(0.0, 1.0), quantisation=Quantisation(), neuron=IF()
    )
    assert made.certificate.level != "A"
    save_network(tmp_path / "if.safetensors", made.network, made.notes())
    words = ["attack", tmp_path / "if.safetensors", "--data", "digits:test:5", "--eps", "8/255"]
    refused(spikemorph(*words), "if.safetensors", "level", "convert it")


@pytest.mark.parametrize(("bits", "passes"), [(12, True), (11, False), (8, False)])
def test_grids_of_fewer_than_twelve_bits_are_flagged(bits: int, passes: bool) -> None:
    graph, data = load_graph("zoo:digits_mlp").graph, load_data("digits:test:12")
    made = convert_graph(
        graph, shown(), grid=Grid.of(0.0, 1.0, bits), quantisation=Quantisation(16)
    )
    assert data.y is not None
    samples = Samples(data.values(), data.y, torch.arange(12))
    quick = GateSettings(samples=12, steps=5, sweep_steps=3, convergence=(3, 5))
    context = GateContext(
        exact_target("digits", made.network), samples, Threat("linf", 0.05), 0, quick
    )
    found = gates["input-grid"](context)
    assert found.passed is passes, found.detail
    assert passes or "its own grid has only" in found.detail


def test_blocks_of_another_input_range_are_not_taken(spikemorph: Run, tmp_path: Path) -> None:
    bare = tmp_path / "bare.safetensors"  # a model of which no range is known
    graph = load_graph("zoo:digits_mlp").graph
    entry = Node(graph.inputs[0], Input((1, 8, 8)))
    save_graph(bare, graph.substitute(entry.name, entry))
    words = ["attack", bare, "--data", "digits:test:20", "--eps", "16/255"]
    words += ["--attacks", "pgd=3,refine=0", "--patience", "0", "--samples", "20", "--gates", "0"]
    folder = ["--folder", tmp_path / "blocks"]
    dim = ["--input-range", "0,0.2"]
    assert spikemorph(*words, *folder)[0] == 0
    _, again, _ = spikemorph(*words, *folder, *dim)
    _, fresh, _ = spikemorph(*words, *dim)
    assert again == fresh


class Smooth(nn.Module):
    """An activation whose steps cannot be learnt: its range leaves zero out."""

    def __init__(self, classes: int = 10, *, smooth: bool = True) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(64, 8), nn.Linear(8, classes)
        self.between = nn.Hardtanh(0.5, 2.0) if smooth else nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.between(self.first(x.flatten(1))))


def saved(model: nn.Module, path: Path) -> Graph:
    graph = read_torch(model.eval(), torch.zeros(1, 1, 8, 8))
    save_graph(path, graph)
    return graph


def test_recipes_refuse_before_they_train(tmp_path: Path) -> None:
    """An activation that cannot be learnt with integers; too few classes for the default attacks."""
    saved(Smooth(), tmp_path / "smooth.safetensors")
    plain = {
        "name": "tiny",
        "model": str(tmp_path / "smooth.safetensors"),
        "data": {"train": "digits:train:40", "test": "digits:test:20"},
        "network": [{"name": "a", "method": "train", "road": "quantisation-aware"}],
    }
    with pytest.raises(UnsupportedError, match="between"):
        run_recipe(recipe_of(plain, "test"), tmp_path / "run", "test")
    saved(Smooth(3, smooth=False), tmp_path / "few.safetensors")
    x = load_data("digits:train:90")
    assert x.y is not None
    for name in ("train", "test"):
        part = slice(0, 40) if name == "train" else slice(40, 80)
        np.savez(tmp_path / f"{name}.npz", x=x.x[part].numpy(), y=(x.y[part] % 3).numpy())
    few = {
        **plain,
        "model": str(tmp_path / "few.safetensors"),
        "data": {name: str(tmp_path / f"{name}.npz") for name in ("train", "test")},
        "attack": {"eps": ["8/255"]},
    }
    with pytest.raises(InputError, match="apgd-t: its loss needs 4 classes, there are 3"):
        run_recipe(recipe_of(few, "test"), tmp_path / "run", "test")
    assert not (tmp_path / "run").exists()
