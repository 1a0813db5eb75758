"""Losses by hand, and what every gradient attack promises: allowed, per sample, no traces left."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikemorph.graph import InputError
from spikemorph.robust import Draws, Threat, attacks
from spikemorph.robust.attacks.apgd import Apgd
from spikemorph.robust.attacks.apgd_targeted import TargetedApgd
from spikemorph.robust.attacks.best_image import BestImages
from spikemorph.robust.attacks.fgsm import Fgsm, RandomFgsm
from spikemorph.robust.attacks.losses import dlr_towards, kl_to, losses, require_logits
from spikemorph.robust.attacks.pgd import Pgd

STEP, CLIMB = ("fgsm", "rfgsm", "ffgsm"), ("pgd", "pgd-cw", "pgd-dlr")
AUTO = ("apgd-ce", "apgd-dlr", "apgd-t")
each_attack = pytest.mark.parametrize("name", STEP + CLIMB + AUTO)
each_norm = pytest.mark.parametrize("threat", [Threat("linf", 0.06), Threat("l2", 0.3)])
N = 9
DRAWS = Draws.of(3, torch.arange(N))


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def task() -> tuple[nn.Module, Tensor, Tensor]:
    """A float64 network with frozen, trained and random parts in its modes, images, its labels."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.BatchNorm1d(16), nn.Tanh())
    net = nn.Sequential(net, nn.Linear(16, 5), nn.Dropout(0.0)).double()
    with torch.no_grad():
        for seed, weight in enumerate(net.parameters()):
            weight.copy_(numbers(*weight.shape, seed=seed))
    net[0][2].eval()  # the batch norm is frozen, the rest trains
    x = numbers(N, 1, 3, 4, seed=9).sigmoid()
    return net, x, net(x).argmax(1)


def wrong(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x).argmax(1) != y


def quick(name: str, threat: Threat) -> Any:
    """The attack of the table, its 100 steps cut to 25."""
    attack: Any = attacks[name](threat)
    return replace(attack, steps=25) if name in AUTO else attack


# Losses


def test_losses_by_hand() -> None:
    """z = (1, 4, 2, 0), y = 0: margin 4 - 1; dlr 3 / (4 - 1); towards 2: (2 - 1) / (4 - 1/2)."""
    z, y = torch.tensor([[1.0, 4, 2, 0]]), torch.tensor([0])
    total = math.e + math.exp(4) + math.exp(2) + 1
    assert losses["cw"](z, y).tolist() == [3]
    assert losses["dlr"](z, y).tolist() == [1]
    assert dlr_towards(torch.tensor([2]))(z, y).item() == pytest.approx(1 / 3.5)
    assert losses["ce"](z, y).item() == pytest.approx(math.log(total) - 1)
    sure = torch.tensor([[0.0, 1, 0, 0]])
    assert kl_to(sure)(z, y).item() == pytest.approx(math.log(total) - 4)
    assert kl_to(z.softmax(1))(z, y).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", ["dlr", "towards"])
def test_ratios_do_not_see_shifts_and_scales(name: str) -> None:
    z, y = numbers(50, 6), torch.arange(50) % 6
    loss = losses["dlr"] if name == "dlr" else dlr_towards((y + 1) % 6)
    torch.testing.assert_close(loss(1e3 * z + 7, y), loss(z, y), rtol=1e-6, atol=1e-9)


def test_margins_are_positive_exactly_where_the_network_is_wrong() -> None:
    z, y = numbers(200, 4), torch.arange(200) % 4
    for name in ("cw", "dlr"):
        assert torch.equal(losses[name](z, y) > 0, z.argmax(1) != y)


@pytest.mark.parametrize(
    ("classes", "loss", "least"),
    [(1, losses["cw"], 2), (2, losses["dlr"], 3), (3, dlr_towards(torch.tensor([1])), 4)],
)
def test_too_few_classes_are_refused(classes: int, loss: Any, least: int) -> None:
    with pytest.raises(InputError, match=f"needs at least {least} classes"):
        loss(torch.zeros(1, classes), torch.zeros(1, dtype=torch.int64))


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (numbers(4, 3).softmax(1), "returned probabilities"),
        (torch.tensor([[0.0, 1], [math.nan, 0]]), "sample 1: .* not finite"),
        (torch.tensor([[0.0, 1], [1, math.inf]]), "sample 1: .* not finite"),
        (torch.zeros(8, 4, 3), r"shape \(8, 4, 3\).*average over time steps"),
    ],
)
def test_what_is_not_logits_is_refused(logits: Tensor, message: str) -> None:
    require_logits(numbers(4, 3))
    with pytest.raises(InputError, match=message):
        require_logits(logits)


# Every attack


@each_attack
@each_norm
def test_images_are_allowed_and_nothing_else_changes(
    name: str, threat: Threat, task: tuple[nn.Module, Tensor, Tensor]
) -> None:
    net, x, y = task
    kept, modes = x.clone(), [module.training for module in net.modules()]
    state = {key: value.clone() for key, value in net.state_dict().items()}
    random = torch.get_rng_state()
    adversarial = quick(name, threat)(net, x, y, DRAWS)
    threat.check(adversarial, x)
    assert bool((threat.distance(adversarial, x) > threat.eps / 9).all())
    assert bool(wrong(net, adversarial, y).any())
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in net.modules()] == modes
    assert all(weight.grad is None and weight.requires_grad for weight in net.parameters())
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert torch.equal(x, kept) and not x.requires_grad and not adversarial.requires_grad


@each_attack
@each_norm
def test_a_sample_does_not_depend_on_its_batch(
    name: str, threat: Threat, task: tuple[nn.Module, Tensor, Tensor]
) -> None:
    net, x, y = task
    chosen, attack = torch.tensor([7, 2, 4]), quick(name, threat)
    whole = attack(net, x, y, DRAWS)
    part = attack(net, x[chosen], y[chosen], DRAWS.rows(chosen))
    torch.testing.assert_close(part, whole[chosen], rtol=0, atol=1e-9)


@each_attack
def test_an_eps_of_nothing_gives_the_clean_image(
    name: str, task: tuple[nn.Module, Tensor, Tensor]
) -> None:
    net, x, y = task
    for norm in ("linf", "l2"):
        assert torch.equal(quick(name, Threat(norm, 0.0))(net, x, y, DRAWS), x)


@each_attack
def test_the_model_always_sees_all_samples(
    name: str, task: tuple[nn.Module, Tensor, Tensor]
) -> None:
    net, x, y = task
    rows = []

    def counted(image: Tensor) -> Tensor:
        rows.append(len(image))
        return net(image)

    quick(name, Threat("linf", 0.3))(counted, x, y, DRAWS)
    assert set(rows) == {N}


@each_attack
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_gradient_is_no_error(
    name: str, norm: Any, task: tuple[nn.Module, Tensor, Tensor]
) -> None:
    net, x, y = task
    threat = Threat(norm, 0.1)
    adversarial = quick(name, threat)(lambda image: net(image).detach(), x, y, DRAWS)
    threat.check(adversarial, x)


@each_attack
def test_bad_input_is_refused(name: str, task: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, x, y = task
    attack = quick(name, Threat("linf", 0.1))
    for model, image, label, message in [
        (net, 2 * x, y, "put the normalisation inside the model"),
        (net, x, y.clone().fill_(5), "sample 0: label 5, but the network has 5 classes"),
        (net, x, y.float(), "give one int64 number for each"),
        (lambda image: net(image).softmax(1), x, y, "returned probabilities"),
        (lambda image: net(image) / 0, x, y, "sample 0: .* not finite"),
        (lambda image: net(image)[None], x, y, "average over time steps"),
    ]:
        with pytest.raises(InputError, match=message):
            attack(model, image, label, DRAWS)


@pytest.mark.parametrize(("name", "classes"), [("pgd-dlr", 2), ("apgd-dlr", 2), ("apgd-t", 3)])
def test_attacks_refuse_networks_with_too_few_classes(
    name: str, classes: int, task: tuple[nn.Module, Tensor, Tensor]
) -> None:
    net, x, y = task
    attack = attacks[name](Threat("linf", 0.1))
    with pytest.raises(InputError, match=f"needs at least {classes + 1} classes"):
        attack(lambda image: net(image)[:, :classes], x, y % 2, DRAWS)


@pytest.mark.parametrize(
    "make",
    [
        lambda threat: Pgd(threat, steps=0),
        lambda threat: Pgd(threat, steps=5, restarts=0),
        lambda threat: Pgd(threat, steps=5, step=-0.1),
        lambda threat: Pgd(threat, steps=5, loss="cross"),
        lambda threat: Pgd(threat, steps=5, restarts=2, last_iterate=True),
        lambda threat: Apgd(threat, steps=0),
        lambda threat: Apgd(threat, rho=75),
        lambda threat: Apgd(threat, loss="kl"),
        lambda threat: TargetedApgd(threat, targets=0),
    ],
)
def test_settings_that_no_attack_can_have_are_refused(make: Callable[[Threat], object]) -> None:
    with pytest.raises(InputError):
        make(Threat("linf", 0.1))


def test_no_attack_of_the_table_is_shorter_than_its_reference() -> None:
    """One step, or 40 and more: never the 10 that torchattacks takes where it is not told."""
    for name in STEP + CLIMB + AUTO:
        attack: Any = attacks[name](Threat("linf", 8 / 255))
        assert attack.name == name and attack.gradients
        assert attack.steps == (1 if name in STEP else 40 if name in CLIMB else 100)
        assert attack.restarts == 1
        assert (attack.step_size is None) == (name in AUTO)
    for attack in (made(Threat("linf", 8 / 255)) for made in attacks.values()):
        assert getattr(attack, "steps", 1) == 1 or getattr(attack, "steps", 1) >= 40


# One step, and many


def linear(x: Tensor) -> Tensor:
    """Two logits whose difference is 3 a - 4 b + 1."""
    a, b = x.unbind(1)
    return torch.stack([3 * a - 4 * b + 1, torch.zeros_like(a)], 1)


HALF, ZERO = torch.full((1, 2), 0.5), torch.tensor([0])


@pytest.mark.parametrize(("norm", "want"), [("linf", [0.4, 0.6]), ("l2", [0.5 - 0.06, 0.5 + 0.08])])
def test_one_step_by_hand(norm: Any, want: list[float]) -> None:
    """Against (3, -4): by 0.1 in each pixel, or by 0.1 along (3, -4) / 5."""
    found = Fgsm(Threat(norm, 0.1))(linear, HALF, ZERO, DRAWS.rows(ZERO))
    torch.testing.assert_close(found, torch.tensor([want]))


def test_the_random_start_takes_half_of_the_way() -> None:
    """Each pixel ends at the border or back at the clean value: +-eps/2 and then +-eps/2."""
    x, y = HALF.expand(400, 2), ZERO.expand(400)
    draws = Draws.of(0, torch.arange(400))
    change = (RandomFgsm(Threat("linf", 0.1))(linear, x, y, draws) - x) / 0.1
    for pixel, end in ((0, -1.0), (1, 1.0)):
        assert set(change[:, pixel].round(decimals=4).abs().tolist()) == {0.0, 1.0}
        reached = float((change[:, pixel] * end > 0.5).float().mean())
        assert abs(reached - 0.5) < 5 * 0.5 / 20


@pytest.mark.parametrize("scale", [1.0, 1e-25])
@pytest.mark.parametrize(("norm", "want"), [("linf", [0.4, 0.6]), ("l2", [0.44, 0.58])])
@pytest.mark.parametrize("name", CLIMB[:2] + AUTO[:1])
def test_the_worst_point_of_a_linear_network_is_found(
    name: str, norm: Any, want: list[float], scale: float
) -> None:
    """It is the gradient step's end; logits scaled to almost nothing are no defence."""
    found = attacks[name](Threat(norm, 0.1))(
        lambda x: scale * linear(x), HALF, ZERO, DRAWS.rows(ZERO)
    )
    torch.testing.assert_close(found, torch.tensor([want]), rtol=0, atol=0.01)


def test_the_last_iterate_is_that_of_a_plain_loop(
    task: tuple[nn.Module, Tensor, Tensor],
) -> None:
    net, x, y = task
    threat = Threat("linf", 0.06)
    image = threat.start(x, DRAWS.fork("restart 0"))
    for _ in range(7):
        image = image.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(net(image), y), image)
        image = image + 2.5 * 0.06 / 7 * gradient.sign()
        image = torch.max(torch.min(image, x + 0.06), x - 0.06).clamp(0, 1)
    found = Pgd(threat, steps=7, last_iterate=True)(net, x, y, DRAWS)
    torch.testing.assert_close(found, image.detach(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", CLIMB + AUTO)
def test_an_already_misclassified_sample_keeps_its_clean_image(
    name: str, task: tuple[nn.Module, Tensor, Tensor]
) -> None:
    net, x, y = task
    y = torch.where(torch.arange(N) == 4, (y + 1) % 5, y)
    found = attacks[name](Threat("linf", 0.06))(net, x, y, DRAWS)
    assert (found == x).flatten(1).all(1).tolist() == [index == 4 for index in range(N)]


@pytest.mark.parametrize("attack", [Pgd(Threat("linf", 0.02), 5), Apgd(Threat("linf", 0.02), 5)])
def test_restarts_only_add(attack: Pgd | Apgd, task: tuple[nn.Module, Tensor, Tensor]) -> None:
    """What one start fooled stays as it was; margins only grow."""
    net, x, y = task
    one, many = (replace(attack, restarts=n)(net, x, y, DRAWS) for n in (1, 6))
    with torch.no_grad():
        fooled, margins = wrong(net, one, y), [losses["cw"](net(i), y) for i in (one, many)]
    assert bool(fooled.any()) and not bool(fooled.all())
    assert torch.equal(many[fooled], one[fooled])
    assert bool((margins[1] >= margins[0]).all()) and bool((margins[1] > margins[0]).any())


def test_the_best_iterate_is_never_weaker_than_the_last(
    task: tuple[nn.Module, Tensor, Tensor],
) -> None:
    net, x, y = task
    pgd = Pgd(Threat("linf", 0.03), steps=4, step=0.03)
    best, last = (replace(pgd, last_iterate=flag)(net, x, y, DRAWS) for flag in (False, True))
    margins = [losses["cw"](net(image), y) for image in (best, last)]
    assert bool((margins[0] >= margins[1]).all()) and bool((margins[0] > margins[1]).any())


def test_a_fooling_image_comes_first_then_the_larger_margin() -> None:
    """Margins of label 0 by hand: tied -> 0, then -1 (worse), then 2 (fools), final at the end."""
    y, x = torch.tensor([0]), torch.zeros(1, 1)
    found, _ = BestImages.before(lambda _: torch.tensor([[1.5, 0.0]]), x, y)
    for image, logits in ((0.1, [1.0, 1.0]), (0.2, [1.0, 0.0]), (0.3, [0.0, 2.0])):
        found = found.with_(torch.full((1, 1), image), torch.tensor([logits]), y)
    found = found.settled().with_(torch.ones(1, 1), torch.tensor([[0.0, 9.0]]), y)
    assert found.images.item() == pytest.approx(0.3)
    assert found.margins.tolist() == [2] and found.all_final()
