"""Pruning recurrent networks: masks inside bodies hold from pruning to the certificate."""

import pytest
import torch
from recurring import GRID, around, drawn_cell, jumping

from spikemorph.convert import certify, to_spiking
from spikemorph.graph import Graph, GraphError
from spikemorph.layers.masks import (
    broken_masks,
    mask_hash,
    masks_of,
    sparsity,
    weighted_ops,
    with_masks,
)
from spikemorph.prune import Lesson, PruneTask, Ranked, Uniform, layer_sparsities, prune_graph
from spikemorph.quant import Quantisation, quantise_graph
from spikemorph.quant.learning import learn_quantised
from spikemorph.robust.training.objectives import PgdTraining
from spikemorph.spiking.neurons import pow2
from spikemorph.train import DataTensors, TrainSettings

X = jumping(40, 4, 3, 0)
DATA = DataTensors(X, (X[:, -1, 0] > 0.5).long())
LESSON = Lesson(DATA, TrainSettings(1, 20, rate=0.05))


def drawn(kind: str) -> Graph:
    there, back = (drawn_cell(kind, 3, 4, seed) for seed in (1, 2))
    return around((there, False), (back, True), elements=4, inputs=3, size=4)


METHODS = ("gradual", "hydra", "harp", "snip")


@pytest.mark.parametrize("kind", ["gru", "lstm"])
@pytest.mark.parametrize("allocation", [Uniform(), Ranked()], ids=str)
def test_the_smallest_recurrent_weights_go(kind: str, allocation: Uniform | Ranked) -> None:
    """By layer each loses its share; by one ranking, none that stays is smaller than one that went."""
    graph = drawn(kind)
    found = prune_graph("magnitude", PruneTask(graph, 0.5, allocation))
    before, after = weighted_ops(graph), weighted_ops(found)
    assert sum("/" in name for name in masks_of(found)) == len(before) - 1
    assert sparsity(found) == pytest.approx(0.5, abs=0.01)
    stayed = torch.cat([before[n].weight[m].abs() for n, m in masks_of(found).items()])
    gone = torch.cat([before[n].weight[~m].abs() for n, m in masks_of(found).items()])
    if isinstance(allocation, Ranked):
        assert float(stayed.min()) >= float(gone.max())
    else:
        assert all(row.sparsity == 0.5 for row in layer_sparsities(found))
    for name, mask in masks_of(found).items():
        assert torch.equal(after[name].weight, before[name].weight * mask)


@pytest.mark.parametrize("method", METHODS)
def test_methods_that_learn_prune_inside_recurrent_layers(method: str) -> None:
    found = prune_graph(method, PruneTask(drawn("gru"), 0.5, lesson=LESSON, allow_empty=True))
    assert not broken_masks(found)
    inside = {name: mask for name, mask in masks_of(found).items() if "/" in name}
    assert len(inside) == 12 and sum(int((~m).sum()) for m in inside.values()) > 0


def test_masks_inside_hold_from_adversarial_training_to_the_certificate() -> None:
    """Pruned, trained under quantisation by an attack on every element, converted, proved."""
    pruned = prune_graph("magnitude", PruneTask(drawn("gru"), 0.6))
    lesson = TrainSettings(1, 20, rate=0.05)
    hard = PgdTraining(0.1, 2, 0.05)
    made = learn_quantised(pruned, X, GRID, Quantisation(8), DATA, lesson, objective=hard)
    assert {n: mask_hash(m) for n, m in masks_of(made).items()} == {
        n: mask_hash(m) for n, m in masks_of(pruned).items()
    }
    assert not torch.equal(
        weighted_ops(made)["a/new.h"].weight,
        weighted_ops(quantise_graph(pruned, X, GRID, Quantisation(8)))["a/new.h"].weight,
    )
    proof = certify(to_spiking(made, pow2()))
    assert proof.level == "A"
    assert {row.node: row.mask_hash for row in proof.masks} == {
        n: mask_hash(m) for n, m in masks_of(pruned).items()
    }


def test_a_weight_outside_its_mask_is_found_inside_a_body() -> None:
    graph = drawn("tanh")
    masks = {"a/state.h": torch.ones(4, 4, dtype=torch.bool)}
    masks["a/state.h"][0, 1] = False
    masked = with_masks(graph, masks)
    op = weighted_ops(masked)["a/state.h"]
    assert float(op.weight[0, 1]) == 0 and list(masks_of(masked)) == ["a/state.h"]
    op.weight[0, 1] = 1.0
    assert broken_masks(masked) == ["node 'a/state.h': 1 weights outside its mask are not zero"]
    with pytest.raises(GraphError, match="a/none"):
        with_masks(graph, {"a/none": masks["a/state.h"]})
