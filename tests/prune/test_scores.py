"""Scores by hand: connection sensitivity, synaptic flow, HYDRA's and HARP's gradients and target."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import pytest
import torch
from helpers import draw
from torch import Generator, Tensor, nn
from torch.optim import SGD

from spikemorph.graph import Graph, InputError
from spikemorph.layers.activation import ReLU
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.joining import Add
from spikemorph.layers.linear import Linear
from spikemorph.layers.masks import masks_of
from spikemorph.layers.normalisation import BatchNorm
from spikemorph.layers.shape import Reshape
from spikemorph.prune import Lesson, PruneTask
from spikemorph.prune.harp import Harp, Rated, Target, _Push
from spikemorph.prune.hydra import Scored, Scoring, first_scores, scored_module
from spikemorph.prune.snip import connection_sensitivity
from spikemorph.prune.synflow import SynFlow, synaptic_flow
from spikemorph.train import DataTensors, GraphModule, TrainSettings
from spikemorph.train.companion import Moment


@dataclass(frozen=True)
class Summed:
    """The sum of outputs, clean or moved by a random start: an objective with a known gradient."""

    shift: float = 0.0

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
        start = self.shift * torch.rand(x.shape, generator=generator)
        out: Tensor = model(x + start)
        return out.sum()


def lesson(x: Tensor, objective: Summed) -> Lesson:
    data = DataTensors(x, torch.zeros(len(x), dtype=torch.int64))
    return Lesson(data, TrainSettings(epochs=1), objective)


def test_connection_sensitivity_by_hand(chain: Callable[..., Graph]) -> None:
    """L = sum of x w over two samples: |w dL/dw| = |w (x_1 + x_2)| = |2 (1 + 3)|, |-1 (4 - 2)|, 0."""
    graph = chain((3,), Linear(torch.tensor([[2.0, -1.0, 0.0]]), None))
    x = torch.tensor([[1.0, 4.0, 5.0], [3.0, -2.0, 5.0]])
    plan = lesson(x, Summed())
    felt = connection_sensitivity(PruneTask(graph, 0.5, lesson=plan), plan, 128)
    assert felt["n0"].tolist() == [[8.0, 2.0, 0.0]]


def test_connection_sensitivity_is_of_the_objective_that_was_given(
    chain: Callable[..., Graph],
) -> None:
    """A random start from the task's generator: the same by seed, and larger than without."""
    graph = chain((3,), Linear(torch.ones(2, 3), None))
    x = torch.ones(4, 3)

    def felt(shift: float, seed: int) -> Tensor:
        plan = lesson(x, Summed(shift))
        task = PruneTask(graph, 0.5, lesson=plan, seed=seed)
        return connection_sensitivity(task, plan, 3)["n0"]

    assert felt(0.0, 0).tolist() == [[3.0] * 3] * 2  # three samples of ones
    assert torch.equal(felt(1.0, 5), felt(1.0, 5))
    assert not torch.equal(felt(1.0, 5), felt(1.0, 6))
    assert (felt(1.0, 5) > 3).all()


def test_a_gradient_that_is_no_number_is_refused(chain: Callable[..., Graph]) -> None:
    plan = lesson(torch.tensor([[math.inf, 1.0]]), Summed())
    graph = chain((2,), Linear(torch.ones(1, 2), None))
    with pytest.raises(InputError, match="'n0': the loss's gradient is no finite number"):
        connection_sensitivity(PruneTask(graph, 0.5, lesson=plan), plan, 8)


def test_synaptic_flow_by_hand(chain: Callable[..., Graph]) -> None:
    """R = 1^T |W2| |W1| 1: W1's entry (j, i) scores |w_ji| times column j of |W2| summed.

    |W1| = [[1, 2], [3, 4]], |W2| = [[5, 6]]: W1 scores 5, 10; 18, 24; W2 scores 5 (1 + 2), 6 (3 + 4).
    Bias, norm, scale and activation do not count.
    """
    first = Linear(torch.tensor([[1.0, -2.0], [-3.0, 4.0]]), torch.tensor([9.0, -9.0]))
    norm = BatchNorm(draw(2), draw(2).abs(), draw(2), draw(2), 1e-5)
    scale = ScaleShift(torch.tensor(-3.0), torch.tensor(7.0))
    graph = chain((2,), first, norm, scale, ReLU(), Linear(torch.tensor([[-5.0, 6.0]]), None))
    flows = synaptic_flow(graph, PruneTask(graph, 0.5).magnitudes())
    assert flows["n0"].tolist() == [[5, 10], [18, 24]]
    assert flows["n4"].tolist() == [[15, 42]]
    assert flows["n0"].dtype == torch.float64


def test_synaptic_flow_is_conserved_from_layer_to_layer(chain: Callable[..., Graph]) -> None:
    """Every layer that all paths pass carries the whole flow R (SynFlow, theorem 2)."""
    pad = ((1, 1), (1, 1))
    layers = [
        Convolution(draw(3, 2, 3, 3), draw(3), (1, 1), pad, (1, 1)),
        ReLU(),
        Convolution(draw(4, 3, 3, 3, seed=1), None, (2, 2), pad, (1, 1)),
        ReLU(),
        Reshape((4 * 9,)),
        Linear(draw(5, 36), draw(5)),
    ]
    graph = chain((2, 6, 6), *layers)
    flows = synaptic_flow(graph, PruneTask(graph, 0.5).magnitudes())
    sums = [float(flow.sum()) for flow in flows.values()]
    assert sums == pytest.approx([sums[0]] * 3, rel=1e-12)


def test_a_shared_weight_gathers_the_flow_of_all_its_places(chain: Callable[..., Graph]) -> None:
    """R = 1^T W W 1 with W = [[1, 2], [0, 3]]: dR/dw_ji = (W^T 1)_j + (W 1)_i; and a sum of paths."""
    weight = torch.tensor([[1.0, 2.0], [0.0, 3.0]])
    twice = chain((2,), Linear(weight, None), Linear(weight, None))
    assert synaptic_flow(twice, {"n0": weight.double()})["n0"].tolist() == [
        [1 * (1 + 3), 2 * (1 + 3)],
        [0, 3 * (5 + 3)],
    ]
    minus = (torch.tensor(-2.0), torch.tensor(1.0))
    joined = chain((2,), Linear(weight, None), (Add(minus), "n0", "x"))
    assert synaptic_flow(joined, {"n0": weight.double()})["n0"].tolist() == [[2, 4], [0, 6]]


def test_synflow_leaves_no_layer_empty_where_magnitude_would(chain: Callable[..., Graph]) -> None:
    """A bottleneck with tiny weights carries all the flow; 99 % of 930 weights go."""
    layers = [Linear(draw(30, 30), None), Linear(draw(1, 30) / 1000, None)]
    task = PruneTask(chain((30,), *layers), 0.99)
    kept = [int(mask.sum()) for mask in masks_of(SynFlow(rounds=20)(task)).values()]
    assert sum(kept) == 9
    assert min(kept) >= 1


def test_first_scores_by_hand() -> None:
    """Fan-in 2, largest weight 4: sqrt(6 / 2) w / 4."""
    found = first_scores(torch.tensor([[2.0, -4.0], [0.0, 1.0]])).detach()
    wanted = torch.tensor([[2.0, -4.0], [0.0, 1.0]]) * math.sqrt(3) / 4
    torch.testing.assert_close(found, wanted)


def test_scores_of_both_signs_learn_to_be_larger_where_that_helps() -> None:
    """L = -(w mask) for w = 3: the mask should rise, so |s| should: dL/ds = -3 sign(s)."""
    layer = Scored(torch.tensor([[2.0, -1.0, 4.0]]), kept=2)
    loss = -layer(torch.tensor([[3.0, 3.0, 3.0]])).sum()
    loss.backward()
    assert layer.mask().tolist() == [[True, False, True]]
    assert layer.scores.grad is not None
    assert layer.scores.grad.tolist() == [[-3.0, 3.0, -3.0]]


def test_weights_stand_still_while_scores_learn(chain: Callable[..., Graph]) -> None:
    weight, bias = draw(3, 4), draw(3)
    norm = BatchNorm(torch.zeros(3), torch.ones(3), torch.ones(3), torch.zeros(3), 1e-5)
    graph = chain((4,), Linear(weight, bias), norm)
    module = scored_module(graph, {"n0": Scored(weight, 6)})
    learns = {name for name, p in module.named_parameters() if p.requires_grad}
    assert learns == {"2_gain", "2_shift", "transforms.1_weight.scores"}
    module(draw(5, 4)).square().sum().backward()
    assert module.weight("n0").grad is None


def rated(*sizes: int, density: float = 0.3, floor: float = 0.01) -> dict[str, Rated]:
    return {f"n{i}": Rated(draw(1, n, seed=i), density, floor) for i, n in enumerate(sizes)}


def test_a_rated_layer_by_hand() -> None:
    """k = floor + (1 - floor) sigmoid(rate); the density's gradient is the sum of the mask's."""
    layer = Rated(torch.tensor([[4.0, -3.0, 2.0, 1.0]]), density=0.5, floor=0.3)
    inside = (0.5 - 0.3) / 0.7
    assert layer.density().item() == pytest.approx(0.5)
    assert torch.sigmoid(layer.rate).item() == pytest.approx(inside)
    used = layer(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    assert used.tolist() == [[1, 2, 0, 0]]
    (used * torch.tensor([[1.0, 10.0, 100.0, 1000.0]])).sum().backward()
    masks_gradient = 1 * 1 + 2 * 10 + 3 * 100 + 4 * 1000
    assert layer.rate.grad is not None
    assert layer.rate.grad.item() == pytest.approx(masks_gradient * 0.7 * inside * (1 - inside))
    assert layer.scores.grad is not None
    assert layer.scores.grad.tolist() == [[1, -20, 300, 4000]]  # through the absolute value


@pytest.mark.parametrize("density", [0.05, 0.1, 0.6])
def test_the_hinge_is_zero_exactly_at_the_target(density: float) -> None:
    """Settled rates may be unlike each other; their sum is the target's, and the hinge exactly 0."""
    target = Target(rated(1000, 300, 40, density=density), kept=134)
    target.layers["n1"].rate.data.add_(0.7)
    target.settle()
    assert target.total().item() == pytest.approx(134, abs=0.01)
    assert target.excess().item() == 0.0
    rates = [layer.rate for layer in target.layers.values()]
    pulls = torch.autograd.grad(target.excess(), rates, allow_unused=True)
    assert all(pull is None or pull.item() == 0 for pull in pulls)
    assert sum(target.counts().values()) == 134
    between = (target.layers["n1"].rate - target.layers["n0"].rate).item()
    assert between == pytest.approx(0.7, abs=1e-2 if density < 0.1 else 1e-4)


def test_above_the_target_the_hinge_is_the_share_too_many() -> None:
    target = Target(rated(1000, 300, density=0.3), kept=130)
    assert target.excess().item() == pytest.approx(0.3 * 1300 / 130 - 1, rel=1e-6)
    assert Target(rated(1000, 300, density=0.09), kept=130).excess().item() == 0.0
    one_too_many = Target(rated(1000, 300, density=131 / 1300), kept=130)
    assert one_too_many.excess().item() == pytest.approx(1 / 130, rel=1e-3)


def moment(target: Target, step: int) -> Moment:
    rates = [layer.rate for layer in target.layers.values()]
    for rate in rates:
        rate.grad = torch.zeros_like(rate)
    return Moment(nn.Module(), SGD(rates, lr=0.1), torch.Generator(), step, 100, 0.1)


def test_rates_are_pushed_by_epoch_and_rest_at_the_target() -> None:
    """In epoch 3 of 4 the gradient gamma 3 (n_l / K) dk_l/dr_l is added; at the target, nothing."""
    target = Target(rated(1000, 300, density=0.3, floor=0.01), kept=130)
    push = _Push(target, gamma=0.01, epochs=4)
    assert push.before_update(moment(target, step=51))
    inside = (0.3 - 0.01) / 0.99
    slope = 0.99 * inside * (1 - inside)
    for name, size in (("n0", 1000), ("n1", 300)):
        gradient = target.layers[name].rate.grad
        assert gradient is not None
        assert gradient.item() == pytest.approx(0.03 * size / 130 * slope, rel=1e-5)
    low = Target(rated(1000, 300, density=0.05), kept=130)
    _Push(low, gamma=0.01, epochs=4).before_update(moment(low, step=51))
    assert all(layer.rate.grad is None for layer in low.layers.values())
    assert all(bool(layer.rested) for layer in low.layers.values())
    assert low.total().item() == pytest.approx(130, abs=0.01)


def test_rates_that_rest_never_move_again() -> None:
    """Once rested, neither decay nor a loss above the target moves them."""
    target = Target(rated(1000, 300, density=0.05), kept=130)
    push = _Push(target, gamma=0.01, epochs=4)
    push.before_update(moment(target, step=10))
    before = [layer.rate.item() for layer in target.layers.values()]
    rates = [layer.rate for layer in target.layers.values()]
    optimizer = SGD(rates, lr=0.1, momentum=0.9, weight_decay=0.1)
    for step in (11, 12):
        for rate in rates:
            rate.grad = torch.ones_like(rate)
        push.before_update(Moment(nn.Module(), optimizer, torch.Generator(), step, 100, 0.1))
        optimizer.step()
    assert [layer.rate.item() for layer in target.layers.values()] == before


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.8, 0.97])
@pytest.mark.parametrize("gamma", [0.0, 0.01, 5.0])
def test_harp_meets_the_target_exactly(
    chain: Callable[..., Graph], sparsity: float, gamma: float
) -> None:
    """Whether the hinge was strong enough to reach it or not; no layer is empty."""
    graph = chain((10,), Linear(draw(16, 10), draw(16)), ReLU(), Linear(draw(3, 16), None))
    data = DataTensors(draw(60, 10, seed=8), torch.arange(60) % 3)
    plan = Lesson(data, TrainSettings(epochs=5, batch=10, rate=0.05))
    found = masks_of(Harp(gamma=gamma)(PruneTask(graph, sparsity, lesson=plan)))
    kept = [int(mask.sum()) for mask in found.values()]
    exact = (1 - Fraction(str(sparsity))) * 208
    assert sum(kept) == math.floor(exact)
    assert min(kept) >= 1


def test_harp_refuses_a_target_below_one_weight_a_layer(chain: Callable[..., Graph]) -> None:
    graph = chain((3,), Linear(draw(2, 3), None), ReLU(), Linear(draw(2, 2), None))
    plan = Lesson(DataTensors(draw(8, 3), torch.zeros(8, dtype=torch.int64)), TrainSettings(1))
    with pytest.raises(InputError, match="at least 2.0 weights in 2 layers, and 1 are to be left"):
        Harp()(PruneTask(graph, 0.9, lesson=plan))


@pytest.mark.parametrize("share", [0.0, 1.0, math.nan])
def test_a_share_of_epochs_must_leave_some(share: float) -> None:
    with pytest.raises(InputError, match="share of the epochs"):
        Scoring(share=share)


def test_graph_modules_are_what_scores_live_in(chain: Callable[..., Graph]) -> None:
    weight = torch.tensor([[4.0, 1.0, -3.0]])
    module = scored_module(chain((3,), Linear(weight, None)), {"n0": Scored(weight, 2)})
    assert isinstance(module, GraphModule)
    assert module(torch.ones(1, 3)).item() == 4 - 3
