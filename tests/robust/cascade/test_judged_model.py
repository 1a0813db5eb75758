"""The network alone decides, broken samples cost nothing more, and gradients are watched."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from spikemorph.robust import Draws, GradientPath, Target, Threat
from spikemorph.robust.attacks.pgd import Pgd
from spikemorph.robust.cascade.worst_case import worst_case


def brightness(target_class: int = 1) -> Target:
    """Class 1 where the image's mean is above a half; one path."""

    def logits(x: Tensor) -> Tensor:
        mean = x.flatten(1).mean(1)
        return torch.stack([0.5 - mean, mean - 0.5], 1) * 10

    return Target("brightness", logits, (GradientPath("itself", logits),))


def test_only_the_network_decides() -> None:
    """A path that shouts "broken" at everything breaks nothing by it, exact as it may claim to be."""
    target = brightness()
    x = torch.full((6, 1, 3, 3), 0.45)
    x[3:] = 0.2  # too dark to be broken
    y = torch.zeros(6, dtype=torch.int64)

    def lies(images: Tensor) -> Tensor:
        logits = target.logits(images)
        shift = torch.tensor([-50.0, 50.0])
        return logits + shift * (images != x[:1, :, :1, :1]).flatten(1).any(1)[:, None]

    for path in (GradientPath("liar", lies), GradientPath("liar", lies, exact=False)):
        attacked, draws = replace(target, paths=(path,)), Draws.of(0, torch.arange(6))
        found = worst_case(attacked, [Pgd(Threat("linf", 0.1), 20)], x, y, draws)
        assert found.worst.tolist() == [False] * 3 + [True] * 3  # and what can be broken still is
        assert bool((target.logits(found.adversarial).argmax(1) != 0)[:3].all())


def test_a_broken_sample_costs_nothing_more() -> None:
    """From .4 by steps of .04 the mean passes a half at the third step: four queries and no more.

    Asked are the start (the draws are pinned), after one step, after two, after three. The
    clean image is known. The sample at .1 is never broken and asked about at all 11 images.
    """
    target = brightness()
    x = torch.tensor([0.4, 0.1]).reshape(2, 1).expand(2, 9).reshape(2, 1, 3, 3).contiguous()
    y = torch.zeros(2, dtype=torch.int64)
    threat = Threat("linf", 0.2)

    @dataclass(frozen=True)
    class Pinned(Pgd):
        def _start(self, x: Tensor, draws: Draws, restart: int) -> Tensor:
            return x.clone()

    found = worst_case(target, [Pinned(threat, 10, step=0.04)], x, y, Draws.of(0, torch.arange(2)))
    assert found.worst.tolist() == [False, True]
    assert float(found.adversarial[0].mean()) == pytest.approx(0.52)
    assert found.members[0].queries == 4 + 11


def test_a_promised_last_iterate_is_not_stopped() -> None:
    @dataclass(frozen=True)
    class ThereAndBack:
        threat: Threat
        last_iterate: bool
        name = "there-and-back"
        gradients = True

        def __call__(self, model, x, y, draws):
            model(x + self.threat.eps)
            return x

    x, y = torch.full((3, 1, 2, 2), 0.45), torch.zeros(3, dtype=torch.int64)
    draws = Draws.of(0, torch.arange(3))
    for last, left in ((True, 100), (False, 0)):
        attack = ThereAndBack(Threat("linf", 0.1), last)
        assert worst_case(brightness(), [attack], x, y, draws).accuracy == left


def test_allowed_images_count_whatever_is_returned_and_others_do_not() -> None:
    @dataclass(frozen=True)
    class Careless:
        threat: Threat
        name = "careless"
        gradients = True

        def __call__(self, model, x, y, draws):
            model(torch.ones_like(x))  # breaks everything, and is not allowed
            model(x + self.threat.eps)
            return x

    x = torch.tensor([0.45, 0.2]).reshape(2, 1, 1, 1).expand(2, 1, 2, 2)
    y, draws = torch.zeros(2, dtype=torch.int64), Draws.of(0, torch.arange(2))
    found = worst_case(brightness(), [Careless(Threat("linf", 0.1))], x, y, draws)
    assert found.worst.tolist() == [False, True]
    assert float(found.adversarial[0].mean()) == pytest.approx(0.55)


def test_attacks_never_see_a_gradient_that_is_not_finite() -> None:
    seen: list[Tensor] = []

    @dataclass(frozen=True)
    class Looking:
        threat: Threat
        name = "looking"
        gradients = True

        def __call__(self, model, x, y, draws):
            image = x.clone().requires_grad_()
            seen.extend(torch.autograd.grad(model(image).sum(), image))
            return x

    target = brightness()
    steep = GradientPath(
        "steep", lambda x: target.logits(x) + ((x - x.detach()) * 1e30).sum() * 1e30
    )
    x, y = torch.full((2, 1, 2, 2), 0.2), torch.zeros(2, dtype=torch.int64)
    attacked = replace(target, paths=(steep,))
    found = worst_case(attacked, [Looking(Threat("linf", 0.1))], x, y, Draws.of(0, torch.arange(2)))
    assert [gradient.tolist() for gradient in seen] == [torch.zeros_like(x).tolist()]
    assert found.members[0].nan_gradient_fraction == 1


def test_zero_and_lost_gradients_are_counted_per_path() -> None:
    target = brightness()

    class Lost(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            gradient = gradient.clone()
            gradient[::2] = torch.nan
            return gradient

    head = nn.Parameter(torch.ones(2))  # makes logits differentiable, though not in the image
    paths = (
        *target.paths,
        GradientPath("none", lambda x: target.logits(x.detach())),
        GradientPath("unconnected", lambda x: target.logits(x.detach()) * head),
        GradientPath("lost", lambda x: target.logits(Lost.apply(x))),
    )
    x, y = torch.full((4, 1, 2, 2), 0.2), torch.zeros(4, dtype=torch.int64)
    found = worst_case(
        replace(target, paths=paths), [Pgd(Threat("linf", 0.1), 5)], x, y, Draws.of(0, torch.arange(4))
    )  # fmt: skip
    zero = [member.zero_gradient_fraction for member in found.members]
    lost = [member.nan_gradient_fraction for member in found.members]
    assert zero == [0, 1, 1, 0]
    assert lost == [0, 0, 0, 0.5]
    assert [member.gradients for member in found.members] == [20] * 4


def test_a_query_that_ends_the_batch_takes_no_gradient() -> None:
    """Every sample is broken at last: the gradient of those last images is never asked for."""

    def model(x: Tensor) -> Tensor:
        mean = x.flatten(1).mean(1)
        return torch.stack([torch.full_like(mean, 0.5), mean], 1)

    x, y = torch.full((3, 1, 2, 2), 0.45), torch.zeros(3, dtype=torch.int64)
    target = Target("mean", model, (GradientPath("own", model),))
    pgd = Pgd(Threat("linf", 0.2), 20, step=0.02)
    (member,) = worst_case(target, [pgd], x, y, Draws.of(0, torch.arange(3))).members
    assert member.broken == 3 and member.gradients > 0
    assert member.zero_gradient_fraction == 0
