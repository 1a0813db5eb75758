"""Laws of graphs as spiking networks that are trained through time."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikemorph.convert import read_torch
from spikemorph.graph import Graph, GraphError, UnsupportedError
from spikemorph.layers.activation import Clip, ReLU, Tanh
from spikemorph.layers.linear import Linear
from spikemorph.layers.masks import weight_of, weighted_nodes
from spikemorph.layers.normalisation import BatchNorm
from spikemorph.surrogate import Dynamics, PiecewiseLinear, SpikingModule
from spikemorph.surrogate.gradients import Exponential
from spikemorph.surrogate.layerwise import RateThrough
from spikemorph.surrogate.module import LEAST_THRESHOLD
from spikemorph.surrogate.replacement import Clipped, Rectified
from spikemorph.train import DataTensors, TrainSettings, accuracy, fit, initialised
from spikemorph.zoo import load_data


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


class Residual(nn.Module):
    """A static shortcut around the first spikes, a max pool on spikes, an average, two norms."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.inner = nn.Conv2d(6, 6, 3, padding=1)
        self.again = nn.BatchNorm2d(6)
        self.head = nn.Linear(6 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        stem = self.norm(self.stem(x))
        y = F.max_pool2d(torch.relu(stem), 2)
        z = torch.relu(self.again(self.inner(y)) + F.avg_pool2d(stem, 2))
        return self.head(F.avg_pool2d(z, 2).flatten(1))


@cache
def residual() -> tuple[Residual, Graph]:
    net = initialised(Residual, torch.Generator().manual_seed(0))
    assert isinstance(net, Residual)
    with torch.no_grad():
        for norm, seed in ((net.norm, 1), (net.again, 2)):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.weight.copy_(0.7 + draw(6, seed=seed))
            norm.bias.copy_(0.5 * draw(6, seed=seed + 2))
            norm.running_mean.copy_(0.2 * draw(6, seed=seed + 4))
            norm.running_var.copy_(0.5 + draw(6, seed=seed + 6))
    return net, read_torch(net.eval(), torch.zeros(1, 1, 8, 8))


def spiking(**options: bool | float) -> SpikingModule:
    module = SpikingModule(residual()[1], Dynamics(4, **options))  # type: ignore[arg-type]
    with torch.no_grad():
        for k, threshold in enumerate(module.thresholds.values()):
            threshold.fill_(0.5 + 0.2 * k)
    return module.eval()


@pytest.mark.parametrize("leak", [1.0, 0.5])
@pytest.mark.parametrize("hard", [True, False])
def test_it_is_the_network_step_by_step(leak: float, hard: bool) -> None:
    """Written with torch's layers, a step at a time, by the neuron's equations."""
    net, _ = residual()
    module, x = spiking(leak=leak, hard_reset=hard), draw(5, 1, 8, 8, seed=9)
    v1, v2, total = torch.zeros(5, 6, 8, 8), torch.zeros(5, 6, 4, 4), torch.zeros(5, 10)

    def fire(v: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
        spikes = (v >= threshold).float()
        return spikes, v * (1 - spikes) if hard else v - threshold * spikes

    with torch.no_grad():
        stem = net.norm(net.stem(x))
        for _ in range(4):
            o1, v1 = fire(leak * v1 + stem, 0.5)
            inner = net.again(net.inner(F.max_pool2d(o1, 2)))
            o2, v2 = fire(leak * v2 + inner + F.avg_pool2d(stem, 2), 0.7)
            total += net.head(F.avg_pool2d(o2, 2).flatten(1))
        assert 0.05 < float(o1.mean()) < 0.9
        torch.testing.assert_close(module(x), total / 4, rtol=1e-4, atol=1e-5)


def test_what_does_not_change_in_time_runs_once() -> None:
    """Before the first spikes a batch of 3 is a batch of 3; behind them it is one of 3 T."""
    module = spiking()
    seen: dict[str, int] = {}
    plain = module.computing

    def counted(*, training: bool, remember: bool = True) -> Callable[..., Tensor]:
        compute = plain(training=training, remember=remember)

        def one(node: object, *inputs: Tensor) -> Tensor:
            seen[str(type(node.op).__name__) + str(len(seen))] = len(inputs[0])  # type: ignore[attr-defined]
            return compute(node, *inputs)

        return one

    module.computing = counted  # type: ignore[method-assign]
    module(draw(3, 1, 8, 8))
    first = next(k for k, n in enumerate(seen.values()) if n == 12)
    assert [name[:4] for name in seen][:2] == ["Conv", "Batc"]
    sizes = list(seen.values())
    assert sizes[:first] == [3] * first
    assert first >= 2
    assert sizes.count(3) == 3  # the shortcut's pool too


def test_batch_norms_in_training_see_all_steps_at_once() -> None:
    """Their statistics are those of the time-merged tensor, moved a tenth of the way."""
    module = spiking()
    x = draw(7, 1, 8, 8, seed=3)
    norms = [node for node in module.graph.nodes if isinstance(node.op, BatchNorm)]
    (source,) = norms[1].inputs
    module.train()
    merged = module.output_of(x, source, batch_statistics=True).flatten(0, 1)
    assert len(merged) == 28
    module(x)
    op = module.to_graph()[norms[1].name].op
    assert isinstance(op, BatchNorm)
    before = norms[1].op
    assert isinstance(before, BatchNorm)
    wanted = 0.9 * before.mean + 0.1 * merged.mean((0, 2, 3))
    torch.testing.assert_close(op.mean, wanted)


def state(module: SpikingModule) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_nothing_is_left_behind() -> None:
    """The same x twice gives the same logits, also between other inputs, rules and observations.

    A rule other than the module's own sees running statistics even while the module trains.
    """
    module, x = spiking(), draw(4, 1, 8, 8, seed=1)
    wanted, before = module(x), state(module)
    module.train()
    for rule in (RateThrough(), Exponential(0.3, 2.0), Rectified()):
        module.logits_by(rule)(draw(9, 1, 8, 8, seed=2).requires_grad_()).sum()
    assert torch.equal(module.logits_by(RateThrough())(x), wanted)
    module.observe(x, module.spiking[1], 9, batch_statistics=True)
    assert module.training
    assert module.surrogate == PiecewiseLinear(1.0)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert torch.equal(module.eval()(x), wanted)


def test_currents_are_observed_as_the_network_has_them(chain: Callable[..., Graph]) -> None:
    """Two neurons, V_th = 1: 0.5 spikes at every second step; the next layer doubles spikes."""
    eye = torch.eye(2)
    graph = chain((2,), Linear(eye, None), ReLU(), Linear(2 * eye, None), ReLU())
    module, x = SpikingModule(graph, Dynamics(2)), torch.tensor([[0.5, 1.0]])
    assert module.spiking == ("n1", "n3")
    assert module.observe(x, "n1", 3)[:, 0].tolist() == [[0.5, 1.0]] * 3
    assert module.observe(x, "n3", 4)[:, 0].tolist() == [[0, 2], [2, 2], [0, 2], [2, 2]]
    assert module.observe(x, "n3").shape == (2, 1, 2)
    assert module(x).tolist() == [[0.5, 1.0]]
    assert module(torch.zeros(0, 2)).shape == (0, 2)
    with pytest.raises(GraphError, match="'n2' does not spike"):
        module.observe(x, "n2")


def test_replacements_are_the_analogue_networks() -> None:
    net, _ = residual()
    module, x = spiking(), draw(4, 1, 8, 8, seed=5)
    torch.testing.assert_close(module.logits_by(Rectified())(x), net(x), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        stem = net.norm(net.stem(x))
        y = F.max_pool2d((stem / 0.5).clamp(0, 1), 2)
        z = ((net.again(net.inner(y)) + F.avg_pool2d(stem, 2)) / 0.7).clamp(0, 1)
        wanted = net.head(F.avg_pool2d(z, 2).flatten(1))
    torch.testing.assert_close(module.logits_by(Clipped())(x), wanted, rtol=1e-4, atol=1e-5)


def test_with_many_steps_a_soft_reset_is_the_clipped_network(chain: Callable[..., Graph]) -> None:
    """The rate of T steps is within 1 / T of clip(I / V_th, 0, 1)."""
    graph = chain((50,), Linear(torch.eye(50), None), ReLU())
    module = SpikingModule(graph, Dynamics(64, hard_reset=False))
    with torch.no_grad():
        module.thresholds["n1"].fill_(0.4)
    x = draw(3, 50) - 0.2
    with torch.no_grad():
        rates, ramp = module(x), module.logits_by(Clipped())(x)
    assert float((rates - ramp).abs().max()) <= 1 / 64 + 1e-5


def test_thresholds_are_bounded_below_and_still_learn(chain: Callable[..., Graph]) -> None:
    """V_th = -1 is used as 0.03; I = 0.5, so u = 0.47 and d/dV_th = -(1 - 0.47) by the triangle."""
    graph = chain((1,), Linear(torch.ones(1, 1), None), ReLU())
    module = SpikingModule(graph, Dynamics(1))
    threshold = module.thresholds["n1"]
    with torch.no_grad():
        threshold.fill_(-1.0)
    assert module.threshold("n1").item() == pytest.approx(LEAST_THRESHOLD)
    module(torch.tensor([[0.5]])).sum().backward()
    assert threshold.grad is not None
    assert float(threshold.grad) == pytest.approx(-0.53)
    assert threshold.item() == -1


def test_names_with_dots_are_no_trouble(chain: Callable[..., Graph]) -> None:
    plain = chain((2,), Linear(draw(3, 2), None), ReLU(), Linear(draw(2, 3), None))
    names = {"n0": "a.b", "n1": "a.relu.1", "n2": "a_b"}
    nodes = [
        replace(n, name=names.get(n.name, n.name), inputs=tuple(names.get(i, i) for i in n.inputs))
        for n in plain.nodes
    ]
    module = SpikingModule(Graph(tuple(nodes), ("x",), ("a_b",)), Dynamics(2))
    assert module.spiking == ("a.relu.1",)
    assert list(module.thresholds) == ["a.relu.1"]
    with torch.no_grad():
        module.thresholds["a.relu.1"].fill_(0.25)
    twin = SpikingModule(module.graph, Dynamics(2))
    twin.load_state_dict(module.state_dict())
    assert twin.thresholds["a.relu.1"].item() == 0.25
    assert torch.equal(twin(torch.ones(1, 2)), module(torch.ones(1, 2)))


def test_what_cannot_be_trained_through_time_is_named(chain: Callable[..., Graph]) -> None:
    graph = chain((2,), Clip(0.0, 6.0), ReLU(), Tanh())
    with pytest.raises(UnsupportedError, match=r"(?s)2 nodes.*'n0' \(Clip\).*'n2' \(Tanh\)"):
        SpikingModule(graph, Dynamics())
    with pytest.raises(GraphError, match="no ReLU"):
        SpikingModule(chain((2,), Linear(torch.eye(2), None)), Dynamics())


class Fixed(nn.Module):
    """A mask that stays."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


def test_digits_are_learnt_through_time_under_masks() -> None:
    """Thresholds learn as well, connectivity stays. Chance is 10 %; 77 % when measured."""
    samples = load_data("digits:train")
    assert samples.y is not None
    train = DataTensors(samples.values()[:1200], samples.y[:1200])
    held_out = DataTensors(samples.values()[1200:], samples.y[1200:])
    _, graph = residual()
    masks = {
        node.name: draw(6, 6, 3, 3, seed=8) < 0.5
        for node in weighted_nodes(graph)
        if weight_of(node).shape == (6, 6, 3, 3)
    }
    module = SpikingModule(
        graph, Dynamics(4), transforms={name: Fixed(mask) for name, mask in masks.items()}
    )
    before = {name: value.item() for name, value in module.thresholds.items()}
    fit(module, train, TrainSettings(epochs=4, batch=64, rate=0.1))
    found = accuracy(module, held_out)
    assert found > 60
    assert all(value.item() != before[name] for name, value in module.thresholds.items())
    (name,) = masks
    weight = weight_of(module.to_graph()[name])
    assert bool((weight[~masks[name]] == 0).all())
    assert not module.training


@pytest.mark.parametrize("steps", [1, 2, 8])
def test_another_length_is_the_same_network_run_so_long(steps: int) -> None:
    module, x = spiking(), draw(5, 1, 8, 8, seed=9)
    other = SpikingModule(module.graph, replace(module.dynamics, steps=steps)).eval()
    other.load_state_dict(module.state_dict())
    found = module.lasting(steps)
    with torch.no_grad():
        assert torch.equal(found(x), other(x))
        assert not torch.equal(found(x), module(x))
        threshold = next(iter(module.thresholds.values()))
        threshold.fill_(0.9)  # seen by both: nothing is copied
        assert not torch.equal(found(x), other(x))
    assert module.dynamics.steps == 4
