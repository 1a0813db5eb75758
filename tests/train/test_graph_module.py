"""Laws of graphs as modules: the torch network's twin in evaluation, in training, and back again."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import draw
from torch import Tensor, nn

from spikemorph.convert import read_torch
from spikemorph.graph import Graph, GraphError, Input, Node, run
from spikemorph.layers.activation import ReLU
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.joining import Add
from spikemorph.layers.linear import Linear
from spikemorph.layers.masks import weight_of
from spikemorph.layers.normalisation import BatchNorm
from spikemorph.layers.shape import Reshape
from spikemorph.train import CrossEntropy, DataTensors, GraphModule, TrainSettings, fit, initialised
from spikemorph.train.companion import Moment


class Twice(nn.Module):
    """A convolution that is called twice, batch norms, a residual path and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.tied = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.again = nn.BatchNorm2d(4, eps=1e-3)
        self.head = nn.Linear(4 * 36, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm(self.first(x)))
        z = torch.relu(self.tied(y))
        z = torch.relu(self.again(self.tied(z)) + y)
        return self.head(z.flatten(1))


def statistics(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The running mean and variance."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, norm.running_var


def twins() -> tuple[Twice, GraphModule]:
    """The torch network, its norms not idle, and its graph as a module."""
    torch_net = initialised(Twice, torch.Generator().manual_seed(0))
    assert isinstance(torch_net, Twice)
    with torch.no_grad():
        for norm, seed in ((torch_net.norm, 1), (torch_net.again, 2)):
            norm.weight.copy_(1 + 0.2 * draw(4, seed=seed))
            norm.bias.copy_(0.2 * draw(4, seed=seed + 2))
            statistics(norm)[0].copy_(0.1 * draw(4, seed=seed + 4))
            statistics(norm)[1].copy_(1 + 0.3 * draw(4, seed=seed + 6).abs())
    graph = read_torch(torch_net.eval(), torch.zeros(1, 2, 6, 6))
    return torch_net, GraphModule(graph)


def same(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


def test_in_evaluation_it_is_the_network() -> None:
    torch_net, module = twins()
    x = draw(5, 2, 6, 6, seed=9)
    same(module.eval()(x), torch_net(x))


def test_in_training_outputs_statistics_and_gradients_are_the_networks() -> None:
    """Two steps, so that the second starts from moved statistics."""
    torch_net, module = twins()
    torch_net.train()
    module.train()
    y = torch.tensor([0, 1, 2, 0, 1])
    for seed in (10, 11):
        x = draw(5, 2, 6, 6, seed=seed)
        outputs = []
        for net in (torch_net, module):
            net.zero_grad()
            outputs.append(net(x))
            nn.functional.cross_entropy(outputs[-1], y).backward()
        same(outputs[1], outputs[0])
    found = module.to_graph()
    norms = [node.op for node in found.nodes if isinstance(node.op, BatchNorm)]
    for op, norm in zip(norms, (torch_net.norm, torch_net.again), strict=True):
        same(op.mean, statistics(norm)[0])
        same(op.variance, statistics(norm)[1])
    wanted = [p.grad for p in torch_net.parameters() if p.grad is not None]
    grads = [p.grad for p in module.parameters() if p.grad is not None]
    assert len(grads) == len(wanted) == 9  # the tied weight once
    for grad in wanted:
        assert any(g.shape == grad.shape and torch.allclose(g, grad, atol=1e-6) for g in grads)


def test_what_nodes_share_stays_one_parameter_and_one_tensor() -> None:
    _, module = twins()
    graph = module.to_graph()
    weights = [n for n in graph.nodes if isinstance(n.op, Convolution)]
    assert len(weights) == 3
    assert weight_of(weights[1]) is weight_of(weights[2])
    assert module.weight(weights[1].name) is module.weight(weights[2].name)
    assert module.weight(weights[0].name) is not module.weight(weights[1].name)


def test_back_in_a_graph_nothing_has_changed() -> None:
    torch_net, _ = twins()
    graph = read_torch(torch_net, torch.zeros(1, 2, 6, 6))
    back = GraphModule(graph).to_graph()
    x = draw(4, 2, 6, 6, seed=3)
    assert torch.equal(run(back, x), run(graph, x))
    assert [node.name for node in back.nodes] == [node.name for node in graph.nodes]


def test_training_leaves_the_graph_it_came_from_alone() -> None:
    torch_net, _ = twins()
    graph = read_torch(torch_net, torch.zeros(1, 2, 6, 6))
    before = [weight_of(n).clone() for n in graph.nodes if isinstance(n.op, Convolution | Linear)]
    module = GraphModule(graph)
    learn(module)
    after = [weight_of(n) for n in graph.nodes if isinstance(n.op, Convolution | Linear)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    moved = [weight_of(n) for n in module.to_graph().nodes if isinstance(n.op, Linear)]
    assert not torch.equal(moved[0], before[-1])


def learn(module: nn.Module, **options: Any) -> None:
    x, y = draw(24, 2, 6, 6, seed=5), torch.arange(24) % 3
    fit(module, DataTensors(x, y), TrainSettings(epochs=2, batch=8, rate=0.05), **options)


def test_a_trained_module_and_its_graph_agree() -> None:
    _, module = twins()
    learn(module)
    x = draw(6, 2, 6, 6, seed=4)
    assert torch.equal(run(module.to_graph(), x), module(x))


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def test_a_transform_makes_the_weight_that_is_used(chain: Callable[..., Graph]) -> None:
    """y = x (2 w): the gradient reaches w doubled, and the graph holds 2 w."""
    weight = torch.tensor([[1.0, -2.0]])
    module = GraphModule(chain((2,), Linear(weight, None)), {"n0": Doubled()})
    x = torch.tensor([[3.0, 5.0]])
    assert module(x).tolist() == [[2 * (3 - 10)]]
    module(x).sum().backward()
    assert module.weight("n0").grad.tolist() == [[6.0, 10.0]]  # type: ignore[union-attr]
    assert weight_of(module.to_graph()["n0"]).tolist() == [[2.0, -4.0]]
    assert module.weight("n0").tolist() == [[1.0, -2.0]]


def test_one_tensor_in_two_roles_is_two_tensors(chain: Callable[..., Graph]) -> None:
    """Files may store one constant for a mean and a shift; training moves them apart."""
    zero, one = torch.zeros(3), torch.ones(3)
    module = GraphModule(chain((3,), BatchNorm(zero, one, one, zero, 1e-5))).train()
    module(draw(8, 3)).square().sum().backward()
    names = {key for key, _ in module.named_parameters()}
    assert len(names) == 2
    assert len(dict(module.named_buffers())) == 2
    op = module.to_graph()["n0"].op
    assert isinstance(op, BatchNorm)
    assert not torch.equal(op.mean, op.shift)
    assert zero.tolist() == [0, 0, 0]


def test_what_cannot_be_trained_is_named(chain: Callable[..., Graph]) -> None:
    weight = draw(2, 2)
    graph = chain((2,), Linear(weight, None), ReLU(), Linear(weight, None))
    with pytest.raises(GraphError, match="'n1' learns no weight"):
        GraphModule(graph, {"n1": Doubled()})
    with pytest.raises(GraphError, match="'nowhere' learns no weight"):
        GraphModule(graph, {"nowhere": Doubled()})
    with pytest.raises(GraphError, match="'n2': its weight is shared and has a transform already"):
        GraphModule(graph, {"n0": Doubled(), "n2": Doubled()})
    with pytest.raises(GraphError, match="'n1' learns no weight"):
        GraphModule(graph).weight("n1")
    one = torch.tensor(1.0)
    nodes = (Node("a", Input((2,))), Node("b", Input((2,))), Node("s", Add((one, one)), ("a", "b")))
    with pytest.raises(GraphError, match="2 inputs and 1 outputs"):
        GraphModule(Graph(nodes, ("a", "b"), ("s",)))


class Recorder:
    """A companion that leaves out updates at some steps and looks at every one."""

    def __init__(self, leave_out: set[int]) -> None:
        self.leave_out = leave_out
        self.seen: list[tuple[str, int, int, bool]] = []
        self.weights: list[Tensor] = []

    def before_update(self, moment: Moment) -> bool:
        assert isinstance(moment.model, GraphModule)
        weight = moment.model.weight("n1")
        self.seen.append(("before", moment.step, moment.steps, weight.grad is not None))
        self.weights.append(weight.detach().clone())
        return moment.step not in self.leave_out

    def after_update(self, moment: Moment) -> None:
        assert isinstance(moment.model, GraphModule)
        self.seen.append(("after", moment.step, moment.steps, True))
        self.weights.append(moment.model.weight("n1").detach().clone())


def test_a_companion_sees_every_step_and_may_leave_its_update_out(
    chain: Callable[..., Graph],
) -> None:
    """24 samples in batches of 8, twice: 6 steps; the second and the fifth change nothing."""
    module = GraphModule(chain((2, 6, 6), Reshape((72,)), Linear(draw(3, 72) / 8, None)))
    companion = Recorder({2, 5})
    learn(module, companion=companion, objective=CrossEntropy())
    calls = [(when, step) for step in range(1, 7) for when in ("before", "after")]
    assert companion.seen == [(when, step, 6, True) for when, step in calls]
    pairs = zip(companion.weights[::2], companion.weights[1::2], strict=True)
    changed = [not torch.equal(before, after) for before, after in pairs]
    assert changed == [True, False, True, True, False, True]
