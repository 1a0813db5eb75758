"""Attackers' backward rules: the forward pass is the network's, gradients are as they say."""

import pytest
import torch
from torch import Tensor

from spikemorph.graph.traits import Pools
from spikemorph.layers.pooling import GlobalMax, MaxPool
from spikemorph.surrogate.gradients import Exponential
from spikemorph.surrogate.layerwise import by_membrane, per_sample
from spikemorph.surrogate.membranes import Detached, MembranePooled, ordered
from spikemorph.surrogate.module import spike_trains
from spikemorph.surrogate.neuron import Dynamics, Train

POOLS: tuple[tuple[Pools, tuple[int, ...]], ...] = (
    (MaxPool((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)), (3, 6, 6)),
    (MaxPool((3, 2), (2, 1), ((1, 1), (0, 1)), (1, 2)), (2, 7, 5)),
    (MaxPool((3,), (2,), ((1, 0),), (1,)), (2, 9)),
    (MaxPool((2, 2, 2), (2, 2, 2), ((0, 0),) * 3, (1, 1, 1)), (2, 4, 4, 4)),
    (GlobalMax(), (3, 4, 5)),
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("pool", "shape"), POOLS, ids=lambda v: str(v)[:40])
def test_pools_pick_where_another_value_is_greatest(pool: Pools, shape: tuple[int, ...]) -> None:
    x = normal(4, *shape)
    assert torch.equal(pool.picked(x, x), pool(x))
    assert torch.equal(pool.picked(-x, x), -pool(x))
    spikes = (x > 0.3).float()
    assert torch.equal(pool.picked(spikes, x), pool(spikes))  # what is monotone commutes


def test_a_window_of_ties_gives_its_gradient_to_the_largest_membrane() -> None:
    membranes = torch.tensor([[[[0.2, 0.9], [0.7, 0.1]]]])  # none spikes: all tie at zero
    spikes = torch.zeros(1, 1, 2, 2, requires_grad=True)
    pool = POOLS[0][0]
    pool.picked(spikes, membranes).sum().backward()
    assert spikes.grad is not None
    assert spikes.grad.flatten().tolist() == [0, 1, 0, 0]


def test_detached_by_hand() -> None:
    """One neuron, two steps, V_th = 2, hard reset: v = 2.5 (spike), then 1."""
    dynamics, threshold = Dynamics(2), torch.tensor(2.0)
    currents = torch.tensor([[2.5], [1.0]], requires_grad=True)
    spikes = spike_trains(currents, threshold, dynamics, Detached(0.5))
    spikes.backward(torch.tensor([[1.0], [10.0]]))
    width = 0.5 * 2.0
    slope = [torch.tensor(-abs(v - 2.0) / width).exp() / (2 * width) for v in (2.5, 1.0)]
    assert currents.grad is not None
    # The second step's gradient does not reach the first, whose membrane was reset.
    torch.testing.assert_close(currents.grad[:, 0], torch.stack([slope[0], 10 * slope[1]]))


def test_detached_leaves_out_the_reset_only() -> None:
    """Where nothing spikes there is no reset, and the rule is its surrogate's chain rule."""
    dynamics, threshold = Dynamics(3, leak=0.8), torch.tensor(5.0)
    currents, output = normal(3, 4, 2), normal(3, 4, 2, seed=1)
    train = Train(currents, dynamics.membranes(currents, threshold), threshold, dynamics)
    found, _ = Detached(1.0).gradients(train, output)
    left = torch.zeros(4, 2)
    for t in reversed(range(3)):
        slope = (-(train.membranes[t] - 5.0).abs() / 5.0).exp() / 10.0
        now = output[t] * slope + left
        torch.testing.assert_close(found[t], now)
        left = 0.8 * now


def test_rules_that_share_a_batch_keep_their_own_pools_and_resets() -> None:
    rules = (Detached(0.5), MembranePooled(Detached(0.5)), Exponential(0.3, 2.0))
    which = torch.tensor([2, 1, 0, 1])
    mixed = per_sample(rules, which)
    pooled = by_membrane(mixed)
    assert isinstance(pooled, Tensor) and pooled.tolist() == [False, True, False, True]
    assert by_membrane(rules[1]) is True and by_membrane(rules[2]) is False
    dynamics, threshold = Dynamics(3), torch.tensor(0.7)
    currents, output = normal(3, 4, 5), normal(3, 4, 5, seed=1)
    train = Train(currents, dynamics.membranes(currents, threshold), threshold, dynamics)
    found, _ = mixed.gradients(train, output)
    for k, rule in enumerate(which.tolist()):
        alone, _ = rules[rule].gradients(train.rows([k]), output[:, [k]])  # type: ignore[arg-type]
        torch.testing.assert_close(found[:, [k]], alone)
    spikes = train.spikes.float()
    order = ordered(spikes, train.membranes, pooled)
    assert torch.equal(order[:, [0, 2]], spikes[:, [0, 2]])
    assert torch.equal(order[:, [1, 3]], train.membranes[:, [1, 3]])
