"""SA-PGD walks as the published program does."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from spikemorph.graph import InputError
from spikemorph.robust import Draws, Threat
from spikemorph.robust.attacks.stable_adaptive import StableAdaptivePgd

THREAT = Threat("linf", 0.1)
STEPS = 12


def curved(x: Tensor) -> Tensor:
    """Three classes, neither linear nor saturated."""
    weights = torch.randn(16, 12, generator=torch.Generator().manual_seed(1))
    return torch.tanh(x.flatten(1) @ weights).unflatten(1, (3, 4)).sum(2)


def images(count: int = 6) -> tuple[Tensor, Tensor]:
    x = torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    return x, curved(x).argmax(1)


def published(x: Tensor, y: Tensor, start: Tensor) -> list[Tensor]:
    """The program's loop of one run, as it is written there, by cross-entropy; every iterate."""
    image, step, k, counter, seen = start, THREAT.eps, max(int(0.22 * STEPS), 1), 0, [start]
    axes = (1, 2, 3)
    m = v = torch.zeros_like(x)
    for i in range(STEPS):
        image = image.detach().requires_grad_()
        loss = functional.cross_entropy(curved(image), y, reduction="sum")
        (grad,) = torch.autograd.grad(loss, image)
        flat = grad / grad.abs().mean(axes, keepdim=True)
        square = grad**2 / (grad**2).abs().mean(axes, keepdim=True)
        m = 0.5 * m + flat if i else flat
        v = 0.8 * v + square if i else square
        moved = image + torch.clamp(m / (v**0.5 + 1e-12) * step, -step, step)
        image = torch.clamp(torch.min(torch.max(moved, x - THREAT.eps), x + THREAT.eps), 0, 1)
        seen.append(image.detach())
        counter += 1
        if counter == k:
            step, counter = step / 2, 0
            k = max(k - max(int(0.03 * STEPS), 1), max(int(0.06 * STEPS), 1))
    return seen


def test_every_iterate_is_that_of_the_published_program() -> None:
    x, y = images()
    asked: list[Tensor] = []

    def model(image: Tensor) -> Tensor:
        asked.append(image.detach().clone())
        return curved(image)

    start = THREAT.project(x + 0.05, x)
    attack = StableAdaptivePgd(THREAT, steps=STEPS, onward=True)
    attack(model, x, y, Draws.of(0, torch.arange(len(x))), start)
    wanted = published(x, y, start)
    assert len(asked) == 1 + len(wanted)  # the clean images come first
    for own, theirs in zip(asked[1:], wanted, strict=True):
        torch.testing.assert_close(own, theirs, rtol=0, atol=2e-6)


def test_every_iterate_of_l2_is_allowed_and_it_climbs() -> None:
    x, y = images()
    threat = Threat("l2", 0.4)
    found = StableAdaptivePgd(threat, steps=STEPS)(curved, x, y, Draws.of(0, torch.arange(len(x))))
    threat.check(found, x)
    loss = functional.cross_entropy(curved(found), y, reduction="none")
    assert bool((loss > functional.cross_entropy(curved(x), y, reduction="none")).all())


def test_settings_without_work_are_refused() -> None:
    with pytest.raises(InputError, match="sa-pgd needs at least 1"):
        StableAdaptivePgd(THREAT, steps=0)
