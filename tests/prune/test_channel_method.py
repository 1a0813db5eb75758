"""Channel removal as a method: a share of channels goes, training follows, masks are cut and kept."""

from typing import Any

import pytest
import torch

from spikemorph import convert_graph, load_graph
from spikemorph.graph import Graph, InputError, run
from spikemorph.graph.grid import Grid
from spikemorph.layers.activation import ReLU
from spikemorph.layers.linear import Linear
from spikemorph.layers.masks import broken_masks, masks_of, weight_of, weighted_nodes
from spikemorph.prune import Lesson, PruneTask, Uniform, prune_graph
from spikemorph.quant import Quantisation
from spikemorph.train import DataTensors, GraphModule, TrainSettings, accuracy
from spikemorph.zoo import load_data


def weights(graph: Graph) -> int:
    return sum(weight_of(node).numel() for node in weighted_nodes(graph))


@pytest.fixture(scope="module")
def digits() -> DataTensors:
    samples = load_data("digits:train")
    assert samples.y is not None
    return DataTensors(samples.values(), samples.y)


def test_half_the_channels_leave_about_a_quarter_of_the_weights() -> None:
    graph = load_graph("zoo:digits_resnet").graph
    smaller = prune_graph("channels", PruneTask(graph, 0.5))
    assert 0.2 * weights(graph) < weights(smaller) < 0.35 * weights(graph)
    assert run(smaller, torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert not masks_of(smaller)


def test_a_lesson_brings_accuracy_back_and_the_network_converts(digits: DataTensors) -> None:
    graph = load_graph("zoo:digits_cnn").graph
    learn, held = digits.rows(torch.arange(1200)), digits.rows(torch.arange(1200, 1437))
    lesson = Lesson(learn, TrainSettings(epochs=15, rate=0.05))
    bare = prune_graph("channels", PruneTask(graph, 0.5))
    taught = prune_graph("channels", PruneTask(graph, 0.5, lesson=lesson))
    assert weights(taught) == weights(bare)
    before, after = (accuracy(GraphModule(g).eval(), held) for g in (bare, taught))
    assert after >= max(94.0, before)
    result = convert_graph(
        taught, learn.x[:300], grid=Grid.of(0.0, 1.0), quantisation=Quantisation()
    )
    assert result.certificate.level == "A"


def test_masks_of_before_are_cut_and_kept(digits: DataTensors) -> None:
    graph = load_graph("zoo:digits_cnn").graph
    masked = prune_graph("magnitude", PruneTask(graph, 0.5))
    lesson = Lesson(digits, TrainSettings(epochs=1))
    smaller = prune_graph("channels", PruneTask(masked, 0.25, lesson=lesson))
    masks = masks_of(smaller)
    assert set(masks) == set(masks_of(masked))
    assert all(masks[n.name].shape == weight_of(n).shape for n in weighted_nodes(smaller))
    assert not broken_masks(smaller)
    assert any(not bool(mask.all()) for mask in masks.values())


def test_an_allocation_of_weights_is_refused() -> None:
    graph = load_graph("zoo:digits_cnn").graph
    with pytest.raises(InputError, match="an allocation spreads weights, not channels"):
        prune_graph("channels", PruneTask(graph, 0.5, allocation=Uniform()))


def test_a_network_whose_channels_must_stay_is_refused_with_the_reason(chain: Any) -> None:
    """A single layer makes the classes; at sparsity 0 nothing was asked for."""
    graph = chain((4,), Linear(torch.ones(3, 4), None))
    with pytest.raises(InputError, match=r"removes nothing: all .*'n0': node 'n0' is an output"):
        prune_graph("channels", PruneTask(graph, 0.5))
    assert weights(prune_graph("channels", PruneTask(graph, 0.0))) == 12


def test_a_share_below_one_channel_is_refused_with_the_fewest_that_can_go(chain: Any) -> None:
    """Of 4 channels a fifth is less than one, a quarter is one."""
    graph = chain((4,), Linear(torch.ones(4, 4), None), ReLU(), Linear(torch.ones(3, 4), None))
    with pytest.raises(InputError, match=r"0\.2 of a layer's channels .* 1 of 'n0'; ask for more"):
        prune_graph("channels", PruneTask(graph, 0.2))
    assert weights(prune_graph("channels", PruneTask(graph, 0.25))) == 3 * 4 + 3 * 3
