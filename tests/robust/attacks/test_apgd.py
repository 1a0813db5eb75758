"""Auto-PGD takes the steps of its reference, and settles where fixed steps only circle."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikemorph.robust import Draws, Threat
from spikemorph.robust.attacks import apgd_targeted
from spikemorph.robust.attacks.apgd import Apgd, Ascent, checkpoints
from spikemorph.robust.attacks.apgd_targeted import TargetedApgd
from spikemorph.robust.attacks.base import SampleLoss
from spikemorph.robust.attacks.best_image import BestImages
from spikemorph.robust.attacks.losses import dlr_towards, losses
from spikemorph.robust.attacks.pgd import Pgd
from spikemorph.zoo import load_data

THREATS = [Threat("linf", 0.1), Threat("l2", 0.6)]
each_threat = pytest.mark.parametrize("threat", THREATS, ids=["linf", "l2"])


@pytest.fixture(scope="module")
def digits() -> Iterator[tuple[nn.Module, Tensor, Tensor]]:
    """A small convolutional network after a few seconds of training, and its test samples."""
    train, test = load_data("digits:train"), load_data("digits:test")
    assert train.y is not None and test.y is not None
    x, drawn = train.values(), torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 12, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten())
        net = nn.Sequential(net, nn.Linear(192, 48), nn.ReLU(), nn.Linear(48, 10))
    adam = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(120):
        batch = torch.randint(len(x), (128,), generator=drawn)
        adam.zero_grad()
        nn.functional.cross_entropy(net(x[batch]), train.y[batch]).backward()
        adam.step()
    yield net.requires_grad_(False).eval(), test.values()[:120], test.y[:120]


def right(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return net(x).argmax(1) == y


def reference_start(threat: Threat, x: Tensor, seed: int) -> Tensor:
    """Where the reference starts: the same numbers from the same generator."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if threat.norm == "linf":
            way = 2 * torch.rand(x.shape) - 1
            length = way.flatten(1).abs().amax(1)
        else:
            way = torch.randn(x.shape)
            length = way.flatten(1).norm(dim=1)
    return (x + threat.eps * way / length[:, None, None, None]).clamp(0, 1)


def reference(net: nn.Module, x: Tensor, y: Tensor, threat: Threat, loss: str) -> Tensor:
    """Auto-PGD of torchattacks; its steps are given, as its default is 10."""
    torchattacks: Any = pytest.importorskip("torchattacks")
    norm = {"linf": "Linf", "l2": "L2"}[threat.norm]
    attack = torchattacks.APGD(net, norm=norm, eps=threat.eps, steps=100, loss=loss, seed=0)
    with torch.random.fork_rng():
        found: Tensor = attack(x, y)
    return found


@each_threat
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_robust_accuracy_is_that_of_the_reference_from_the_same_start(
    threat: Threat, loss: str, digits: tuple[nn.Module, Tensor, Tensor]
) -> None:
    """Within half a point, and on every sample but one in a hundred."""
    net, x, y = digits
    clean = right(net, x, y)
    x, y = x[clean], y[clean]
    theirs = right(net, reference(net, x, y, threat, loss), y)
    ascent = Ascent(threat, 100, 0.75, net, x, y)
    found, _ = BestImages.before(net, x, y)
    found = ascent.climb(losses[loss], reference_start(threat, x, 0), found)
    threat.check(found.images, x)
    ours = right(net, found.images, y)
    assert torch.equal(ours, ~found.fooled)
    assert 10 < 100 * float(theirs.float().mean()) < 90
    assert abs(float(ours.float().mean() - theirs.float().mean())) <= 0.005
    assert float((ours != theirs).float().mean()) <= 0.01


@each_threat
def test_our_own_starts_touch_the_border(threat: Threat) -> None:
    x, draws = torch.full((50, 1, 4, 4), 0.5), Draws.of(0, torch.arange(50))
    if threat.norm == "l2":
        threat = replace(threat, eps=0.4)
    start = Ascent(threat, 100, 0.75, lambda z: z, x, draws.seeds).start(draws)
    want = torch.full((50,), threat.eps)
    torch.testing.assert_close(threat.distance(start, x), want, rtol=0, atol=1e-6)


def test_checkpoints_by_hand() -> None:
    """Gaps for 100 steps: 22, 19, 16, 13, 10, 7, 6, 6; for 10 steps: 2, then 1 each."""
    assert checkpoints(100) == (22, 41, 57, 70, 80, 87, 93, 99)
    assert checkpoints(10) == (2, 3, 4, 5, 6, 7, 8, 9, 10)
    assert checkpoints(1) == (1,)


def test_momentum_by_hand() -> None:
    """Up a slope from 0.5 within 0.4, at a step of 0.8: 0.9 at once, with nothing to carry on yet.

    Down a cliff beyond 0.8 that pulls back by 0.8: from 0.9 the plain step ends at 0.1, and
    0.9 + 0.75 (0.1 - 0.9) + 0.25 (0.9 - 0.5) = 0.4.
    """
    seen: list[float] = []

    def roof(x: Tensor) -> Tensor:
        seen.append(float(x.detach()))
        return torch.cat([torch.ones(1, 1), -(x - 0.8).abs()], 1)

    x, y = torch.full((1, 1), 0.5), torch.tensor([0])
    ascent = Ascent(Threat("linf", 0.4), 20, 0.75, roof, x, y)
    ascent.climb(losses["cw"], x, BestImages.before(roof, x, y)[0])
    assert seen[1:4] == pytest.approx([0.5, 0.9, 0.4])


@each_threat
def test_it_settles_on_a_summit_inside_the_ball(threat: Threat) -> None:
    """Of z_1 = -|x - a|^2: fixed steps circle at their own length, halved ones come close."""
    clean = torch.full((4, 2), 0.5)
    summit = clean + threat.eps * torch.tensor([[0.31, -0.2], [0.5, 0.13], [-0.4, 0.1], [0, 0.7]])

    def hill(x: Tensor) -> Tensor:
        return torch.stack([torch.ones(4), -((x - summit) ** 2).sum(1)], 1)

    y, draws = torch.zeros(4, dtype=torch.int64), Draws.of(0, torch.arange(4))
    auto = Apgd(threat, loss="cw")(hill, clean, y, draws)
    plain = Pgd(threat, 100, step=2 * threat.eps, loss="cw")(hill, clean, y, draws)
    assert float((auto - summit).norm(dim=1).max()) < 0.03 * threat.eps
    assert float((plain - summit).norm(dim=1).max()) > 0.1 * threat.eps


def test_more_targets_only_add(digits: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, x, y = digits
    x, y, draws = x[:40], y[:40], Draws.of(0, torch.arange(40))
    few, many = (
        TargetedApgd(Threat("linf", 0.08), steps=30, targets=n)(net, x, y, draws) for n in (1, 9)
    )
    fooled = ~right(net, few, y)
    assert torch.equal(many[fooled], few[fooled])
    margins = [losses["cw"](net(image), y) for image in (few, many)]
    assert bool(fooled.any()) and not bool(fooled.all())
    assert bool((margins[1] >= margins[0]).all()) and bool((margins[1] > margins[0]).any())


def test_targets_are_the_likeliest_classes_but_for_the_label(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Labels 0 and 3 of logits (5, 1, 4, 2, 3) and (0, 1, 2, 9, 3), whatever the image."""
    towards: list[list[int]] = []

    def recorded(target: Tensor) -> SampleLoss:
        towards.append(target.tolist())
        return dlr_towards(target)

    monkeypatch.setattr(apgd_targeted, "dlr_towards", recorded)
    logits, y = torch.tensor([[5.0, 1, 4, 2, 3], [0, 1, 2, 9, 3]]), torch.tensor([0, 3])
    attack = TargetedApgd(Threat("linf", 0.1), steps=2)
    attack(lambda x: logits, torch.full((2, 3), 0.5), y, Draws.of(0, y))
    assert towards[1:] == [[2, 4], [4, 2], [3, 1], [1, 0]]  # the first call is a refusal's
