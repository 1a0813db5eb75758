"""Paths whose gradient is another network's: the network itself says which samples stand."""

import pytest
import torch
from torch import Tensor, nn

from spikemorph.choices.attacks import attack_plan
from spikemorph.convert import canonical, read_torch
from spikemorph.graph import InputError
from spikemorph.graph.grid import Grid
from spikemorph.quant import IntegerTwin, Quantisation, quantise_graph
from spikemorph.quant.twin_rules import StraightThrough, Unrounded
from spikemorph.robust import Draws, GradientPath, Target, Threat
from spikemorph.robust.attacks.apgd import Apgd
from spikemorph.robust.attacks.base import Attack
from spikemorph.robust.attacks.pgd import Pgd
from spikemorph.robust.attacks.square import Square
from spikemorph.robust.cascade.worst_case import worst_case
from spikemorph.robust.target import by_rows, through

WEIGHT = torch.tensor([[1.0, -1.0, 0.5], [-1.0, 1.0, -0.5]])


def linear(x: Tensor) -> Tensor:
    return x.flatten(1) @ WEIGHT.T


def mistaken(x: Tensor) -> Tensor:
    """The right gradient, and always the second class."""
    return linear(x) + torch.tensor([0.0, 100.0])


def test_the_forward_is_the_networks_and_the_gradient_the_stand_ins() -> None:
    x = torch.rand(5, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    path = through(lambda x: linear(x).sign(), mistaken)
    logits = path(x)
    assert torch.equal(logits, linear(x).sign()) and torch.equal(path(x.detach()), logits)
    (found,) = torch.autograd.grad(logits[:, 0].sum(), x)
    torch.testing.assert_close(found, WEIGHT[0].expand(5, 3))


@pytest.mark.parametrize("kind", [Pgd, Apgd])
def test_a_sample_that_only_the_stand_in_has_wrong_is_attacked(kind: type) -> None:
    """It is right by a margin that eps can turn."""
    x, y = torch.tensor([[0.5, 0.45, 0.5]] * 4), torch.zeros(4, dtype=torch.int64)
    attack: Attack = kind(Threat("linf", 0.3), steps=5)
    draws = Draws.of(0, torch.arange(4))
    bare = Target("t", linear, (GradientPath("wrong", mistaken, exact=False),))
    assert worst_case(bare, [attack], x, y, draws).accuracy == 100
    path = GradientPath("stand-in", through(linear, mistaken), stand_in=True)
    assert worst_case(Target("t", linear, (path,)), [attack], x, y, draws).accuracy == 0


def test_rows_go_by_their_own_paths() -> None:
    x, which = torch.arange(12.0).reshape(6, 2), torch.tensor([2, 0, 1, 2, 1, 0])
    alone = {1: lambda x: -x}
    found = by_rows(x, which, lambda x, which: x * (10.0 * which[:, None] + 1), alone)
    factors = torch.tensor([21.0, 1.0, -1.0, 21.0, -1.0, 1.0])
    assert torch.equal(found, x * factors[:, None])
    assert torch.equal(by_rows(x, torch.ones(6, dtype=torch.int64), pytest.fail, alone), -x)


class PreActivated(nn.Module):
    """A residual block whose batch norm follows the sum, so that ladders take its shift over."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(8), nn.BatchNorm2d(8)])
        self.head = nn.Linear(8 * 64, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        y = y + self.second(torch.relu(self.norms[0](y)))
        return self.head(torch.relu(self.norms[1](y)).flatten(1))


@pytest.mark.parametrize("rule", [Unrounded(True), Unrounded(False), StraightThrough()], ids=str)
def test_unrounded_ladders_are_the_float_network(rule: StraightThrough | Unrounded) -> None:
    generator = torch.Generator().manual_seed(0)
    model = PreActivated().eval()
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.3, generator=generator)
    for norm in model.norms:
        norm.running_mean.normal_(0, 0.3, generator=generator)  # type: ignore[operator, union-attr]
        norm.running_var.uniform_(0.1, 0.3, generator=generator)  # type: ignore[operator, union-attr]
        norm.weight.data.uniform_(0.5, 1.5, generator=generator)  # type: ignore[operator, union-attr]
    x = torch.rand(64, 1, 8, 8, generator=generator)
    graph = canonical(read_torch(model, x[:1]))
    twin = IntegerTwin(quantise_graph(graph, x, Grid.of(0.0, 1.0, bits=12), Quantisation()))
    real = model(x).detach().double()
    assert float((twin(x, rule) - real).norm() / real.norm()) < 0.1


def test_fewer_queries_shrink_the_squares_all_the_same() -> None:
    threat = Threat("linf", 0.1)
    few, reference, standard = (
        next(a for a in attack_plan(text, 10)(threat) if isinstance(a, Square))
        for text in ("square=500", "square", "standard")
    )
    assert (few.queries, few.rescale, few.share(499)) == (500, True, 0.8 / 2**9)
    assert (reference.queries, reference.rescale) == (standard.queries, standard.rescale)
    assert not standard.rescale


def test_classes_for_targeted_attacks_are_counted() -> None:
    with pytest.raises(InputError, match="apgd-t"):
        attack_plan("apgd-t=20", 3)
