"""Masks are values of the graph: kept by every step from float weights to spikes, and proved."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import draw
from torch import Tensor

from spikemorph import convert_graph, load_graph
from spikemorph.convert import canonical, certify
from spikemorph.graph import Graph, GraphError, run
from spikemorph.graph.grid import Grid
from spikemorph.graph.saving import load_graph_file, save_graph
from spikemorph.layers.activation import ReLU
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.linear import Linear
from spikemorph.layers.masks import (
    broken_masks,
    mask_hash,
    masks_of,
    sparsity,
    weight_of,
    weighted_nodes,
    with_masks,
)
from spikemorph.quant import Quantisation
from spikemorph.zoo.datasets import load_data

NETS = ("digits_mlp", "digits_cnn", "digits_resnet")


def drawn_masks(graph: Graph, density: float = 0.3) -> dict[str, Tensor]:
    """Random masks for every weighted node."""
    generator = torch.Generator().manual_seed(1)
    return {
        node.name: torch.rand(weight_of(node).shape, generator=generator) < density
        for node in weighted_nodes(graph)
    }


def hashes(masks: Mapping[str, Tensor]) -> list[str]:
    return [mask_hash(mask) for mask in masks.values()]


def test_outside_a_mask_the_weight_is_zero_and_inside_it_is_as_before(
    chain: Callable[..., Graph],
) -> None:
    graph = chain((4,), Linear(draw(3, 4), None), ReLU(), Linear(draw(2, 3), None))
    mask = torch.tensor([[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 0]], dtype=torch.bool)
    masked = with_masks(graph, {"n0": mask})
    weight, before = weight_of(masked["n0"]), weight_of(graph["n0"])
    assert torch.equal(weight[mask], before[mask])
    assert weight[~mask].tolist() == [0.0] * 7
    assert not weight[~mask].signbit().any()
    assert list(masks_of(masked)) == ["n0"]
    assert masked["n2"].op is graph["n2"].op
    assert not masks_of(graph)  # the graph it was made from is left alone
    assert sparsity(masked) == pytest.approx(7 / 18)


def test_masks_that_do_not_fit_are_refused(chain: Callable[..., Graph]) -> None:
    graph = chain((4,), Linear(draw(3, 4), None), ReLU())
    with pytest.raises(GraphError, match=r"masks for \['n1'\]: there are no weighted nodes"):
        with_masks(graph, {"n1": torch.ones(3, 4, dtype=torch.bool)})
    with pytest.raises(GraphError, match=r"'n0': a mask of torch.bool and shape \(4, 3\)"):
        with_masks(graph, {"n0": torch.ones(4, 3, dtype=torch.bool)})
    with pytest.raises(GraphError, match="'n0': a mask of torch.float32"):
        with_masks(graph, {"n0": torch.ones(3, 4)})


def test_a_weight_outside_its_mask_is_found(chain: Callable[..., Graph]) -> None:
    graph = chain((4,), Linear(draw(3, 4), None))
    op = graph["n0"].op
    assert isinstance(op, Linear)
    weight = torch.zeros(3, 4)
    weight[0, 0] = weight[2, 1] = 1e-30
    mask = torch.zeros(3, 4, dtype=torch.bool)
    bad = graph.substitute("n0", replace(graph["n0"], op=replace(op, weight=weight, mask=mask)))
    assert broken_masks(bad) == ["node 'n0': 2 weights outside its mask are not zero"]
    assert broken_masks(with_masks(bad, {"n0": mask})) == []


def test_the_hash_names_the_bits_in_order() -> None:
    mask = torch.tensor([[1, 0], [0, 1]], dtype=torch.bool)
    assert mask_hash(mask) == mask_hash(mask.reshape(4, 1, 1, 1))
    assert mask_hash(mask) == mask_hash(mask.t())  # symmetric
    assert mask_hash(mask) != mask_hash(~mask)
    wide = torch.arange(24).reshape(2, 3, 2, 2) % 5 == 0
    assert mask_hash(wide) == mask_hash(wide.to(memory_format=torch.channels_last))


@pytest.mark.parametrize("name", NETS)
def test_masks_are_kept_from_floats_to_spikes(name: str, tmp_path: Path) -> None:
    """Every step has the very masks; integers outside are zero; the certificate proves it."""
    graph = load_graph(f"zoo:{name}").graph
    masks = drawn_masks(graph)
    pruned = with_masks(graph, masks)
    x = load_data("digits:train").values()[:200]
    result = convert_graph(pruned, x, grid=Grid.of(0, 1), quantisation=Quantisation())
    save_graph(tmp_path / "net.safetensors", result.network.graph)
    loaded = load_graph_file(tmp_path / "net.safetensors")
    for step in (pruned, canonical(pruned), result.float_graph, result.network.graph, loaded):
        assert hashes(masks_of(step)) == hashes(masks)
        assert broken_masks(step) == []
        for node in weighted_nodes(step):
            assert weight_of(node)[~masks[node.name].reshape(weight_of(node).shape)].eq(0).all()
    assert not weight_of(weighted_nodes(result.network.graph)[0]).is_floating_point()
    assert result.certificate.level == "A"
    assert [m.mask_hash for m in result.certificate.masks] == hashes(masks)
    assert [m.kept for m in result.certificate.masks] == [int(m.sum()) for m in masks.values()]


def test_masks_follow_a_linear_layer_over_positions(chain: Callable[..., Graph]) -> None:
    """The canonical form makes it a convolution; mask and weight are turned alike."""
    mask = torch.rand((5, 3), generator=torch.Generator().manual_seed(0)) < 0.5
    graph = with_masks(chain((4, 3), Linear(draw(5, 3), draw(5)), ReLU()), {"n0": mask})
    form = canonical(graph)
    (node,) = weighted_nodes(form)
    assert isinstance(node.op, Convolution)
    assert hashes(masks_of(form)) == [mask_hash(mask)]
    assert broken_masks(form) == []
    x = draw(2, 4, 3)
    torch.testing.assert_close(run(form, x), run(graph, x))


def test_a_weight_put_back_loses_the_certificate() -> None:
    graph = load_graph("zoo:digits_mlp").graph
    x = load_data("digits:train").values()[:200]
    network = convert_graph(
        with_masks(graph, drawn_masks(graph)), x, grid=Grid.of(0, 1), quantisation=Quantisation()
    ).network
    node = weighted_nodes(network.graph)[1]
    assert isinstance(node.op, Linear)
    assert node.op.mask is not None
    place = tuple((~node.op.mask).nonzero()[0].tolist())
    weight = node.op.weight.clone()
    weight[place] = 1
    changed = replace(node, op=replace(node.op, weight=weight))
    tampered = replace(network, graph=network.graph.substitute(node.name, changed))
    found = certify(tampered)
    assert any(f"node {node.name!r}: 1 weights outside its mask" in r for r in found.refusals)
    assert found.level != "A"
    assert certify(network).level == "A"
