"""Each trap of torchattacks: shown where it is cheap, and shown not to be ours."""

import importlib.util
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spikemorph.graph import InputError
from spikemorph.robust import Draws, Threat, attacks
from spikemorph.robust.attacks.torchattacks_fab import FabT, Outside

torchattacks = pytest.importorskip("torchattacks")

LINF, L2 = Threat("linf", 0.1), Threat("l2", 0.5)
PGD = Outside(LINF, "PGD", (("steps", 3), ("alpha", 0.05)))


def draws_of(n: int) -> Draws:
    return Draws.of(0, torch.arange(n))


def network(seed: int = 0, classes: int = 4) -> nn.Sequential:
    """A small network with a batch norm that is frozen while the rest trains."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
            nn.Linear(256, classes),
        )  # fmt: skip
    net.train()
    net[1].eval()
    return net


def samples(net: Callable[[Tensor], Tensor], n: int = 5) -> tuple[Tensor, Tensor]:
    """Images and the classes that the network gives them."""
    x = 0.25 + 0.5 * draws_of(n).uniform(1, 8, 8)
    with torch.no_grad():
        return x, net(x).argmax(1)


def modes(net: nn.Module) -> list[bool]:
    return [part.training for part in net.modules()]


def states() -> list[Any]:
    numpy = np.random.get_state()
    return [torch.get_rng_state().tolist(), random.getstate(), numpy[1].tolist(), numpy[2]]


def test_global_random_state_is_left_alone() -> None:
    net = network()
    x, y = samples(net)
    before = states()
    for attack in (PGD, FabT(LINF, steps=2)):
        attack(net, x, y, draws_of(5))
        assert states() == before, attack.name
    calls = [0]

    def breaks(images: Tensor) -> Tensor:
        calls[0] += 1
        if calls[0] > 2:
            raise RuntimeError("in the middle of an attack")
        return net(images)

    with pytest.raises(RuntimeError, match="in the middle"):
        FabT(LINF, steps=2)(breaks, x, y, draws_of(5))
    assert states() == before
    with torch.random.fork_rng(devices=[]):
        torchattacks.FAB(net, steps=1, n_classes=4)(x, y)
        assert states() != before, "the trap is gone"


def test_modes_and_gradients_are_left_alone() -> None:
    net = network()
    x, y = samples(net)
    before = modes(net)
    for attack in (PGD, FabT(LINF, steps=2)):
        attack(net, x, y, draws_of(5))
        assert modes(net) == before
        assert all(parameter.grad is None for parameter in net.parameters())
    with torch.random.fork_rng(devices=[]):
        torchattacks.FAB(net, steps=1, n_classes=4)(x, y)
    assert modes(net) != before, "the trap is gone"
    assert any(parameter.grad is not None for parameter in net.parameters()), "the trap is gone"


def test_it_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    x = torch.full((2, 1, 4, 4), 0.5)
    FabT(LINF, steps=2)(
        lambda x: torch.stack([x.mean((1, 2, 3)) * 0 + 1, x.mean((1, 2, 3))], 1),
        *(x, torch.zeros(2, dtype=torch.int64), draws_of(2)),
    )
    assert capfd.readouterr() == ("", "")


def test_steps_are_never_assumed() -> None:
    for kind, wanted in (
        ("APGD", "steps"),
        ("PGD", "steps"),
        ("FAB", "steps"),
        ("Square", "n_queries"),
    ):
        with pytest.raises(InputError, match=f"torchattacks.{kind}: give {wanted} explicitly"):
            Outside(LINF, kind, ())
    assert attacks["fab-t"](LINF) == FabT(LINF, steps=100, targets=9)
    asked = [0]

    def counting(x: Tensor) -> Tensor:
        asked[0] += 1
        low = x.mean((1, 2, 3))
        return torch.stack([low * 0 + 100, low], 1)

    x, y = torch.full((1, 1, 4, 4), 0.5), torch.zeros(1, dtype=torch.int64)
    counts = []
    for steps in (10, 100):
        asked[0] = 0
        FabT(LINF, steps=steps)(counting, x, y, draws_of(1))
        counts.append(asked[0])
    assert counts[1] - counts[0] == 2 * 90  # a gradient and a judgement for each further step


@pytest.mark.parametrize("kind", ["AutoAttack", "MultiAttack", "LGV", "NoSuchAttack", "os"])
def test_only_single_attacks_are_run(kind: str) -> None:
    with pytest.raises(InputError, match="no single attack"):
        Outside(LINF, kind, ())


def test_unknown_settings_and_useless_ones_are_refused() -> None:
    with pytest.raises(InputError, match="no setting 'step'; choose from eps, alpha, steps"):
        Outside(LINF, "PGD", (("steps", 3), ("step", 1)))
    for steps, targets in ((0, 1), (1, 0)):
        with pytest.raises(InputError, match="at least 1 of each"):
            FabT(LINF, steps=steps, targets=targets)


def ranked(x: Tensor) -> Tensor:
    """12 classes; only the one that seems farthest off, the 11th other, can ever be reached."""
    score = x.flatten(1).double().mean(1)
    fixed = -torch.arange(11.0).double().expand(len(x), 11)
    return torch.cat([fixed, (-20 + 400 * (score - 0.5))[:, None]], dim=1)


def test_classes_are_counted() -> None:
    x, y = torch.full((2, 1, 4, 4), 0.5), torch.zeros(2, dtype=torch.int64)
    found = {n: FabT(LINF, steps=5, targets=n)(ranked, x, y, draws_of(2)) for n in (9, 10, 11, 50)}
    assert [bool((ranked(found[n]).argmax(1) == 0).all()) for n in found] == [
        True,
        True,
        False,
        False,
    ]
    for classes in (2, 3):  # fewer than ten: torchattacks on its own looks for a tenth
        net = network(classes=classes)
        images, labels = samples(net)
        LINF.check(FabT(LINF, steps=3)(net, images, labels, draws_of(5)), images)
    with torch.random.fork_rng(devices=[]), pytest.raises(IndexError):
        torchattacks.FAB(net, steps=1, multi_targeted=True)(images, labels)


@pytest.mark.parametrize("shape", [(64,), (8, 8), (1, 8, 8), (2, 2, 4, 4)], ids=str)
def test_samples_of_any_rank(shape: tuple[int, ...]) -> None:
    net = network().eval()
    x, y = samples(net)

    def model(images: Tensor) -> Tensor:
        assert images.shape[1:] == shape
        return net(images.reshape(-1, 1, 8, 8))

    for attack in (PGD, FabT(LINF, steps=3)):
        wanted = attack(net, x, y, draws_of(5))
        found = attack(model, x.reshape(5, *shape), y, draws_of(5))
        assert found.shape == (5, *shape)
        torch.testing.assert_close(found.reshape(x.shape), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fab_finds_the_border_of_a_linear_model(norm: Any) -> None:
    """The nearest image lies at margin / |w|_1 for "linf", and at margin / |w|_2 for "l2"."""
    weights = draws_of(1).normal(1, 6, 6)[0].double()
    x, y = 0.4 + 0.2 * draws_of(4).uniform(1, 6, 6), torch.zeros(4, dtype=torch.int64)
    lead = 0.5 * float(weights.abs().sum() * 0.1 if norm == "linf" else weights.norm() * 0.1)

    def model(images: Tensor) -> Tensor:  # so large that float32 could not tell the classes apart
        score = ((images.double() - x.double()) * weights).flatten(1).sum(1)
        return 1e9 + torch.stack([torch.full_like(score, lead), score], 1)

    for eps, broken in ((0.045, False), (0.055, True)):  # the border is at 0.05
        threat = Threat(norm, eps)
        found = FabT(threat, steps=20)(model, x, y, draws_of(4))
        threat.check(found, x)
        assert bool(((model(found).argmax(1) != y) == broken).all())


def test_fab_is_that_of_torchattacks() -> None:
    net = network(seed=5).eval()
    x, y = samples(net, 20)
    y[:3] = (y[:3] + 1) % 4  # some are misclassified already
    with torch.random.fork_rng(devices=[]):
        outside = torchattacks.FAB(net, eps=0.1, steps=10, multi_targeted=True, n_classes=4)(x, y)
    found = FabT(LINF, steps=10)(net, x, y, draws_of(20))
    assert torch.equal(found[:3], x[:3])
    right = (net(found).argmax(1) == y, net(outside).argmax(1) == y)
    assert torch.equal(*right) and 0 < int(right[0].sum()) < 17
    torch.testing.assert_close(found[~right[0]], outside[~right[0]], atol=1e-5, rtol=0)


def test_a_sample_alone_is_attacked_as_in_a_batch() -> None:
    net = network(seed=5).eval()
    x, y = samples(net, 4)
    for attack in (PGD, FabT(LINF, steps=4)):
        together = attack(net, x, y, draws_of(4))
        for k in range(4):
            row = torch.tensor([k])
            alone = attack(net, x[row], y[row], draws_of(4).rows(row))
            torch.testing.assert_close(alone[0], together[k], atol=1e-5, rtol=0)


def test_what_leaves_the_ball_is_refused() -> None:
    net = network()
    x, y = samples(net)
    with pytest.raises(InputError, match="left its bounds"):
        Outside(LINF, "GN", (("std", 0.5),), at_once=True)(net, x, y, draws_of(5))


def test_a_model_without_gradient_keeps_its_images() -> None:
    net = network().eval()
    x, y = samples(net)
    for threat in (LINF, L2):
        found = FabT(threat, steps=3)(lambda x: net(x.detach()).detach(), x, y, draws_of(5))
        assert torch.equal(found, x)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"install spikemorph\[attacks\]"):
        FabT(LINF)
