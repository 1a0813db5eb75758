"""Laws of graphs with recurrent layers as modules: torch's twin, trained alike, and a graph again."""

import pytest
import torch
from torch import Tensor, nn

from spikemorph.convert import read_torch
from spikemorph.graph import Graph, GraphError, run
from spikemorph.graph.nested import nested_nodes
from spikemorph.layers.scan import Scan
from spikemorph.train import CrossEntropy, DataTensors, GraphModule, TrainSettings, fit, initialised
from spikemorph.train.temporal import TemporalSparsity, heard_states
from spikemorph.zoo.sequence_models import RecurrentNet

SETTINGS = TrainSettings(epochs=3, batch=8, rate=0.1, clip=1.0)


def drawn(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


X, Y = drawn(16, 5, 3), torch.arange(16) % 2


def twins() -> tuple[RecurrentNet, Graph]:
    """A net of torch, and its graph."""
    net = initialised(
        lambda: RecurrentNet(nn.GRU(3, 4, num_layers=2, batch_first=True), 4, 2),
        torch.Generator().manual_seed(0),
    ).eval()
    assert isinstance(net, RecurrentNet)
    return net, read_torch(net, X)


def test_a_recurrent_module_is_trained_as_torchs_is() -> None:
    """Same batches, same steps: the same weights, and a graph that computes them."""
    net, graph = twins()
    module = GraphModule(graph)
    assert torch.allclose(module(X), net(X), atol=1e-6)
    before = net(X).detach()
    for trained in (net, module):
        fit(trained, DataTensors(X, Y), SETTINGS)
    assert not torch.allclose(net(X), before, atol=1e-3)
    assert torch.allclose(module(X), net(X), atol=1e-4)
    again = module.to_graph()
    assert torch.equal(run(again, X), module(X))
    assert [name for name, _ in nested_nodes(again)] == [name for name, _ in nested_nodes(graph)]


def test_every_weight_inside_a_layer_has_a_name_and_learns_through_its_transform() -> None:
    class Halved(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return 0.5 * weight

    _, graph = twins()
    inner = [n for n, node in nested_nodes(graph) if "/" in n and node.op.learns]
    module = GraphModule(graph, {name: Halved() for name in inner})
    for name, weight in ((name, module.weight(name)) for name in inner):
        halved = dict(nested_nodes(module.to_graph()))[name].op
        assert torch.equal(halved.weight, 0.5 * weight)  # type: ignore[attr-defined]
    module(X).sum().backward()
    assert all(bool(module.weight(name).grad.any()) for name in inner)  # type: ignore[union-attr]


def test_its_states_are_heard_as_torchs_are() -> None:
    net, graph = twins()
    module = GraphModule(graph)
    with heard_states(module) as states:
        module(X)
    assert len(states) == 2
    (last, axis, _) = list(states.values())[-1]
    assert axis == 1 and torch.allclose(last, net.layers(X)[0], atol=1e-6)
    clean, calm = CrossEntropy(), TemporalSparsity(CrossEntropy(), 1.0)
    with torch.no_grad():
        losses = [objective(module, X, Y, torch.Generator()) for objective in (clean, calm)]
    assert float(losses[1]) > float(losses[0])


def test_registers_that_nothing_runs_are_refused() -> None:
    _, graph = twins()
    (scan, *_) = [node.op for node in graph.nodes if isinstance(node.op, Scan)]
    with pytest.raises(GraphError, match="registers of its own .'h'.: run it inside a Scan"):
        GraphModule(scan.body)
