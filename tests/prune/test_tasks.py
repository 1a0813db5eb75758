"""What cannot be pruned is refused, by name, before any training; first weights; runs not mixed up."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import draw

from spikemorph import convert_graph, load_graph
from spikemorph.graph import Graph, GraphError, InputError
from spikemorph.graph.grid import Grid
from spikemorph.layers.activation import ReLU
from spikemorph.layers.linear import Linear
from spikemorph.layers.masks import masks_of, weight_of, with_masks
from spikemorph.layers.normalisation import BatchNorm
from spikemorph.prune import (
    Allocation,
    ErdosRenyi,
    Given,
    Lamp,
    Lesson,
    PruneTask,
    Ranked,
    layer_sparsities,
    prune_graph,
)
from spikemorph.prune.harp import Harp
from spikemorph.prune.hydra import Scoring
from spikemorph.prune.magnitude import Magnitude
from spikemorph.prune.methods import methods
from spikemorph.prune.nm import Nm
from spikemorph.prune.reinitialise import fresh
from spikemorph.prune.rewiring_methods import Rigl, Set
from spikemorph.prune.snip import Snip
from spikemorph.prune.synflow import SynFlow
from spikemorph.prune.task import Method
from spikemorph.quant import Quantisation
from spikemorph.train import DataTensors, TrainSettings
from spikemorph.train.checkpoint import load_checkpoint, save_checkpoint
from spikemorph.zoo.datasets import load_data

NEED_DATA = sorted(set(methods) - {"block", "channels", "magnitude", "nm", "synflow"})


LESSON = Lesson(
    DataTensors(draw(60, 10, seed=8), torch.arange(60) % 3),
    TrainSettings(epochs=2, batch=10, rate=0.05),
)


@pytest.fixture
def graph(chain: Callable[..., Graph]) -> Graph:
    """Weights of the second layer are a hundredth of the first's."""
    first, second = Linear(draw(16, 10), draw(16)), Linear(draw(3, 16) / 100, draw(3))
    return chain((10,), first, ReLU(), second)


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5, math.nan, math.inf])
def test_a_sparsity_that_is_no_share_is_refused(graph: Graph, sparsity: float) -> None:
    with pytest.raises(InputError, match=r"give the share of weights to remove, 0 <= share < 1"):
        PruneTask(graph, sparsity)


def test_an_unknown_method_is_refused_with_the_known(graph: Graph) -> None:
    with pytest.raises(InputError, match="no pruning method 'obd'; known: bcs, block, ch"):
        prune_graph("obd", PruneTask(graph, 0.5))


@pytest.mark.parametrize("name", NEED_DATA)
def test_a_method_that_learns_needs_data(graph: Graph, name: str) -> None:
    with pytest.raises(InputError, match=f"method {name} learns from data"):
        prune_graph(name, PruneTask(graph, 0.5))


def test_what_has_no_float_weights_is_refused(chain: Callable[..., Graph]) -> None:
    with pytest.raises(InputError, match="no weighted layers: nothing to prune"):
        PruneTask(chain((3,), ReLU()), 0.5)
    whole = chain((2,), Linear(torch.ones(2, 2, dtype=torch.int8), None), grid=Grid.of(0, 1))
    with pytest.raises(InputError, match=r"layers \['n0'\] hold integers: prune the network, then"):
        PruneTask(whole, 0.5)


@pytest.mark.parametrize(
    ("name", "sparsity", "allocation", "empty"),
    [
        ("magnitude", 0.99, None, "n2"),  # uniform: floor(0.48)
        ("magnitude", 0.9, Ranked(), "n2"),
        ("gradual", 0.9, Ranked(), "n2"),
        ("rigl", 0.9, Ranked(), "n2"),
        ("set", 0.9, Ranked(), "n2"),
        ("deepr", 0.9, Ranked(), "n2"),
        ("bcs", 0.9, Ranked(), "n2"),
        ("hydra", 0.99, None, "n2"),
        ("block", 0.95, None, "n2"),  # 16 blocks of which floor(0.8) are left
        ("magnitude", 0.5, Given({"n0": 0.0, "n2": 1.0}), "n0"),
        ("synflow", 0.5, Given({"n0": 0.0, "n2": 1.0}), "n0"),
        ("snip", 0.5, Given({"n0": 0.0, "n2": 1.0}), "n0"),
    ],
)
def test_a_layer_pruned_to_nothing_is_named_and_refused_unless_allowed(
    graph: Graph, name: str, sparsity: float, allocation: Allocation | None, empty: str
) -> None:
    """Before any training: no epoch is ever told."""

    def trained(record: object) -> None:
        pytest.fail("it was trained first")

    quick: dict[str, Method] = {"rigl": Rigl(every=1), "set": Set(every=1)}
    method = quick.get(name, name)  # the lesson is too short for the published interval
    task = PruneTask(graph, sparsity, allocation, replace(LESSON, on_epoch=trained))
    with pytest.raises(InputError, match=rf"layers \['{empty}'\] would lose all their weights"):
        prune_graph(method, task)
    allowed = replace(task, lesson=LESSON, allow_empty=True)
    found = masks_of(prune_graph(method, allowed))
    if name not in ("bcs", "gradual"):  # whose layers may fill again
        assert not found[empty].any()


@pytest.mark.parametrize("sparsity", [0.998, 0.9999])
@pytest.mark.parametrize("name", ["digits_mlp", "digits_cnn", "digits_resnet"])
def test_a_network_with_empty_layers_still_converts_exactly(name: str, sparsity: float) -> None:
    """Even where nothing is left at all: what then comes out are the biases."""
    graph = load_graph(f"zoo:{name}").graph
    found = prune_graph("magnitude", PruneTask(graph, sparsity, Ranked(), allow_empty=True))
    assert any(not mask.any() for mask in masks_of(found).values())
    x = load_data("digits:test").values()[:100]
    result = convert_graph(found, x, grid=Grid.of(0, 1), quantisation=Quantisation())
    assert result.certificate.level == "A"
    assert [m.kept for m in result.certificate.masks] == [
        int(mask.sum()) for mask in masks_of(found).values()
    ]


@pytest.mark.parametrize("sparsity", [0.9, 0.6, 0.99])
def test_a_sparsity_that_is_no_pattern_is_refused(graph: Graph, sparsity: float) -> None:
    with pytest.raises(InputError, match="no pattern in groups of 4: choose 0, 0.25, 0.5, 0.75"):
        prune_graph("nm", PruneTask(graph, sparsity))
    with pytest.raises(InputError, match="same pattern; leave ErdosRenyi"):
        prune_graph("nm", PruneTask(graph, 0.5, ErdosRenyi()))
    assert prune_graph(Nm(10), PruneTask(graph, 0.9)) is not graph


@pytest.mark.parametrize("wrong", [lambda: Snip(0), lambda: SynFlow(0), lambda: Harp(floor=1.0)])
def test_settings_that_mean_nothing_are_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(InputError, match="give"):
        wrong()


def test_a_checkpoint_of_another_purpose_is_refused(graph: Graph, tmp_path: Path) -> None:
    """Another method, sparsity or seed must not go on under the masks of a stopped run."""
    path = tmp_path / "run"
    task = PruneTask(graph, 0.5, lesson=replace(LESSON, checkpoint=path))
    prune_graph(Rigl(every=2), task)
    for method, other in (
        (Rigl(every=2), replace(task, sparsity=0.6)),
        (Rigl(every=3), task),
        (Magnitude(), task),
        (Rigl(every=2), replace(task, seed=1)),
        (Rigl(every=2), replace(task, allocation=Lamp())),
    ):
        with pytest.raises(InputError, match="made with purpose .*; ask for the same or delete it"):
            prune_graph(method, other)
    state = load_checkpoint(path)
    del state["identity"]["purpose"]  # as files were before they told it
    save_checkpoint(state, path)
    prune_graph(Rigl(every=2), task)


def test_phases_share_the_epochs() -> None:
    lesson = replace(LESSON, settings=TrainSettings(epochs=10), checkpoint=Path("a/run"))
    scores, weights = lesson.phase("scores", 0.4), lesson.phase("weights", 0.6)
    assert (scores.settings.epochs, weights.settings.epochs) == (4, 6)
    assert scores.checkpoint == Path("a/run.scores")
    assert lesson.phase("scores", 0.01).settings.epochs == 1
    assert Scoring().share == 0.4


def test_layer_rows_count_what_is_kept(graph: Graph) -> None:
    mask = torch.zeros(16, 10, dtype=torch.bool)
    mask[0, :3] = True
    rows = layer_sparsities(with_masks(graph, {"n0": mask}))
    assert [(r.node, r.weights, r.kept, r.nonzero) for r in rows] == [
        ("n0", 160, 3, 3),
        ("n2", 48, 48, 48),
    ]
    assert rows[0].sparsity == pytest.approx(157 / 160)
    node = graph["n0"]
    assert isinstance(node.op, Linear)
    broken = graph.substitute("n0", replace(node, op=replace(node.op, mask=mask)))
    with pytest.raises(GraphError, match="'n0': 157 weights outside its mask are not zero"):
        layer_sparsities(broken)


def test_fresh_weights_come_from_the_generator_alone(chain: Callable[..., Graph]) -> None:
    """Deviation sqrt(2 / 300) for a linear layer of 300 inputs; norms idle; ties kept; no masks."""
    shared = draw(300, 300)
    norm = BatchNorm(draw(300), draw(300).abs(), draw(300), draw(300), 1e-5)
    start = chain((300,), Linear(shared, draw(300)), norm, ReLU(), Linear(shared, None))
    graph = with_masks(start, {"n0": shared > 0, "n3": shared > 0})
    state = torch.get_rng_state()
    one, other = (fresh(graph, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(weight_of(one["n0"]), weight_of(other["n0"]))
    assert weight_of(one["n0"]).std().item() == pytest.approx(math.sqrt(2 / 300), rel=0.02)
    assert masks_of(one) == {}
    op, first = one["n1"].op, one["n0"].op
    assert isinstance(op, BatchNorm)
    assert isinstance(first, Linear)
    assert not first.bias.any()  # type: ignore[union-attr]
    assert [t.unique().tolist() for t in (op.mean, op.variance, op.gain, op.shift)] == [
        [0.0], [1.0], [1.0], [0.0],
    ]  # fmt: skip


def test_fresh_weights_that_were_one_tensor_are_one_again(chain: Callable[..., Graph]) -> None:
    shared = draw(4, 4)
    found = fresh(chain((4,), Linear(shared, None), Linear(shared, None)), torch.Generator())
    assert weight_of(found["n0"]) is weight_of(found["n1"])
    assert not torch.equal(weight_of(found["n0"]), shared)


def test_snip_at_initialisation_is_snip_of_a_fresh_graph(graph: Graph) -> None:
    start = fresh(graph, torch.Generator().manual_seed(0))
    masks = masks_of(prune_graph(Snip(30), PruneTask(start, 0.9, lesson=LESSON)))
    assert sum(int(mask.sum()) for mask in masks.values()) == 20
    given = masks_of(prune_graph(Snip(30), PruneTask(graph, 0.9, lesson=LESSON)))
    assert any(not torch.equal(masks[name], given[name]) for name in masks)
