"""Worst cases are per sample, and the same alone, in any order, and in shared batches."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from spikemorph.graph import InputError
from spikemorph.robust import Attack, Draws, GradientPath, Target, Threat
from spikemorph.robust.attacks.base import input_gradient
from spikemorph.robust.attacks.fgsm import Fgsm, RandomFgsm
from spikemorph.robust.attacks.pgd import Pgd
from spikemorph.robust.cascade.outcome import WorstCase
from spikemorph.robust.cascade.worst_case import worst_case

THREAT = Threat("linf", 0.03)


class Step(torch.autograd.Function):
    """The sign in front; behind, a triangle of the given width: a surrogate."""

    @staticmethod
    def forward(ctx, v, width):
        ctx.save_for_backward(v, width)
        return (v > 0).to(v)

    @staticmethod
    def backward(ctx, gradient):
        v, width = ctx.saved_tensors
        return gradient * (width - v.abs()).clamp_min(0) / width**2, None


def spiking(widths: tuple[float, ...] = (0.1, 0.5, 2.0)) -> Target:
    """A network of steps in float64, with a path for every width of its surrogate."""
    generator = torch.Generator().manual_seed(3)
    first, last = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((16, 24), (24, 4))
    )

    def logits(x: Tensor, width: Tensor) -> Tensor:
        v = (x.flatten(1).double() - 0.5) @ first
        return Step.apply(v, width) @ last

    def mixed(x: Tensor, which: Tensor) -> Tensor:
        return logits(x, torch.tensor(widths, dtype=torch.float64)[which][:, None])

    paths = tuple(
        GradientPath(f"width {w:g}", partial(logits, width=torch.tensor(w, dtype=torch.float64)))
        for w in widths
    )
    return Target("steps", lambda x: logits(x, torch.tensor(1.0)), paths, mixed)


def samples(target: Target, n: int = 40) -> tuple[Tensor, Tensor, Draws]:
    """Random images; every fifth has a wrong label."""
    x = torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    y = target.logits(x).argmax(1)
    y[::5] = (y[::5] + 1) % 4
    return x, y, Draws.of(7, torch.arange(n))


ENSEMBLE = (Pgd(THREAT, 6), Fgsm(THREAT), RandomFgsm(THREAT), Pgd(THREAT, 4, loss="cw", restarts=2))


def same(one: WorstCase, other: WorstCase) -> bool:
    """The same to every sample, by the same members with the same images."""
    pairs = [(getattr(one, k), getattr(other, k)) for k in ("clean", "worst", "broken_by")]
    counts = [[(m.name, m.attacked, m.broken) for m in found.members] for found in (one, other)]
    images = torch.equal(one.adversarial, other.adversarial)
    return images and counts[0] == counts[1] and all(torch.equal(*pair) for pair in pairs)


@dataclass(frozen=True)
class Adding:
    """Adds a fixed change; asks the network first if told to, by one row at a time if told to."""

    threat: Threat
    change: Callable[[Tensor], Tensor]
    name: str = "adding"
    gradients: bool = False
    asked: list[int] = field(default_factory=list, compare=False)

    def __call__(self, model, x, y, draws):
        self.asked.append(len(x))
        return x + self.change(x)


def brightness(target_class: int = 1) -> Target:
    """Class 1 where the image's mean is above a half; one path."""

    def logits(x: Tensor) -> Tensor:
        mean = x.flatten(1).mean(1)
        return torch.stack([0.5 - mean, mean - 0.5], 1) * 10

    return Target("brightness", logits, (GradientPath("itself", logits),))


def test_worst_case_is_per_sample_not_the_worst_member() -> None:
    """Means .45, .55 .45, .55: brighter breaks the dark half, darker the bright half: nobody is left.

    Each member alone leaves 50 %; the worst member's mean would say 50 %, the truth is 0 %.
    """
    x = torch.tensor([0.45, 0.55, 0.45, 0.55]).reshape(4, 1).expand(4, 9).reshape(4, 1, 3, 3)
    y = torch.tensor([0, 1, 0, 1])
    threat = Threat("linf", 0.1)
    brighter, darker = (
        Adding(threat, partial(torch.full_like, fill_value=by)) for by in (0.1, -0.1)
    )
    draws = Draws.of(0, torch.arange(4))
    alone = [worst_case(brightness(), [a], x, y, draws).accuracy for a in (brighter, darker)]
    both = worst_case(brightness(), [brighter, darker], x, y, draws)
    assert alone == [50, 50]
    assert both.cumulative == (50, 0)
    assert both.broken_by.tolist() == [0, 1, 0, 1]
    assert [(m.attacked, m.broken) for m in both.members] == [(4, 2), (2, 2)]
    assert torch.allclose(both.adversarial.mean((1, 2, 3)), torch.tensor([0.55, 0.45, 0.55, 0.45]))


def test_ensemble_is_the_intersection_of_its_members_in_any_order() -> None:
    target = spiking()
    x, y, draws = samples(target)
    alone = [
        worst_case(replace(target, paths=(path,), mixed=None), [attack], x, y, draws)
        for attack in ENSEMBLE
        for path in target.paths
    ]
    left = torch.stack([one.worst for one in alone]).all(0)
    assert 0 < int(left.sum()) < min(int(one.worst.sum()) for one in alone)  # a test that can fail
    for attacks in list(itertools.permutations(ENSEMBLE))[::5]:
        for paths in itertools.islice(itertools.permutations(target.paths), 0, 6, 4):
            both = replace(target, paths=paths, mixed=None)
            assert torch.equal(worst_case(both, attacks, x, y, draws).worst, left)


def test_members_do_the_same_alone_and_after_others() -> None:
    target = spiking()
    x, y, draws = samples(target)
    together = worst_case(target, ENSEMBLE, x, y, draws)
    alone = [
        worst_case(replace(target, paths=(path,), mixed=None), [attack], x, y, draws)
        for attack in ENSEMBLE
        for path in target.paths
    ]
    broken = 0
    for number, one in enumerate(alone):
        mine = together.broken_by == number
        assert torch.equal(together.adversarial[mine], one.adversarial[mine])
        broken += int(mine.sum())
    assert broken == int((together.clean & ~together.worst).sum())
    standing = int(together.clean.sum())  # also where paths shared a batch
    for member in together.members:
        assert member.attacked == standing
        standing -= member.broken
    assert standing == int(together.worst.sum())
    assert all(
        a >= b for a, b in itertools.pairwise([together.clean_accuracy, *together.cumulative])
    )
    assert together.cumulative[-1] == together.accuracy


@settings(max_examples=12, deadline=None)
@given(block=st.integers(1, 30), n=st.integers(1, 12))
def test_blocks_and_shared_batches_change_nothing(block: int, n: int) -> None:
    target = spiking()
    x, y, draws = (part[:n] for part in (*samples(target)[:2], samples(target)[2].seeds))
    attacks = (Pgd(THREAT, 3), Fgsm(THREAT))
    want = worst_case(replace(target, mixed=None), attacks, x, y, Draws(draws), block=1)
    assert same(worst_case(target, attacks, x, y, Draws(draws), block=block), want)


@pytest.mark.parametrize(("block", "most"), [(200, 3), (96, 3), (95, 2), (63, 1)])
def test_paths_share_batches_where_there_is_room(block: int, most: int) -> None:
    """Of 40 samples 32 are right at first: so many rows are one path's, 64 two paths', 96 three's."""
    target = spiking()
    x, y, draws = samples(target)
    sizes: list[tuple[int, int]] = []

    def mixed(images: Tensor, which: Tensor) -> Tensor:
        assert target.mixed is not None
        sizes.append((len(which), len(which.unique())))
        return target.mixed(images, which)

    x, y = x[y == target.logits(x).argmax(1)], y[y == target.logits(x).argmax(1)]
    still = Pgd(Threat("linf", 1e-9), 2)
    shared = replace(target, mixed=mixed)
    worst_case(shared, [still], x, y, draws.rows(torch.arange(32)), block=block)
    assert max([paths for _, paths in sizes], default=1) == most
    assert all(rows <= block for rows, _ in sizes)


def test_attacks_that_ask_for_other_batches_are_served_one_path_at_a_time() -> None:
    @dataclass(frozen=True)
    class OneByOne:
        threat: Threat
        name = "one-by-one"
        gradients = True

        def __call__(self, model, x, y, draws):
            rows = zip(x.split(1), y.split(1), strict=True)
            found = [
                input_gradient(
                    model, a, partial(nn.functional.cross_entropy, target=b, reduction="none")
                )
                for a, b in rows
            ]
            step = self.threat.eps * torch.cat([gradient for gradient, _, _ in found]).sign()
            return self.threat.project(x + step, x)

    target = spiking()
    x, y, draws = samples(target)
    got = worst_case(target, [OneByOne(THREAT)], x, y, draws, block=500)
    want = worst_case(target, [Fgsm(THREAT)], x, y, draws, block=500)
    assert torch.equal(got.worst, want.worst)
    assert int(want.worst.sum()) < int(want.clean.sum())


def test_only_survivors_are_attacked() -> None:
    x = torch.tensor([0.45, 0.55, 0.2, 0.45]).reshape(4, 1).expand(4, 9).reshape(4, 1, 3, 3)
    y = torch.tensor([0, 0, 0, 0])  # the second is wrong at first
    threat, draws = Threat("linf", 0.1), Draws.of(0, torch.arange(4))
    make = partial(Adding, threat, partial(torch.full_like, fill_value=0.1))
    for only_survivors, sizes in ((True, (3, 1)), (False, (3, 3))):
        first, second = make(), make()
        found = worst_case(
            brightness(), [first, second], x, y, draws, only_survivors=only_survivors
        )
        assert (first.asked, second.asked) == ([sizes[0]], [sizes[1]])
        assert tuple(m.attacked for m in found.members) == sizes
        assert found.broken_by.tolist() == [0, -1, -1, 0]
        assert found.members[1].broken == (0 if only_survivors else 2)
        assert found.adversarial[1:3].equal(x[1:3])


def test_nothing_global_is_touched_and_every_run_is_the_same() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Dropout(), nn.Linear(8, 4)).train()
    net[2].eval()
    target = Target("net", net, (GradientPath("itself", net),))
    x, y, draws = samples(target)
    before = torch.get_rng_state()
    first, second = (worst_case(target, ENSEMBLE, x, y, draws) for _ in range(2))
    assert same(first, second)
    assert torch.equal(torch.get_rng_state(), before)
    assert net.training
    assert not net[2].training
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert first.adversarial.requires_grad is False


def test_watch_counts_members_over_all_blocks() -> None:
    target, seen = brightness(), []
    x, y = torch.full((5, 1, 2, 2), 0.2), torch.zeros(5, dtype=torch.int64)
    worst_case(
        target, [Fgsm(THREAT), Pgd(THREAT, 1)], x, y, Draws.of(0, torch.arange(5)), block=2,
        watch=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen == [(k, 6) for k in range(1, 7)]


GOOD = Fgsm(THREAT)


@pytest.mark.parametrize(
    ("attacks", "change", "words"),
    [
        ((), {}, "no attack"),
        ((GOOD, Fgsm(Threat("linf", 0.1))), {}, "one threat"),
        ((GOOD,), {"paths": ()}, "no gradient path"),
        ((GOOD,), {"x": torch.full((3, 1, 2, 2), 2.0)}, "not in 0..1"),
        ((GOOD,), {"y": torch.tensor([0, 1, 2])}, "sample 2: label 2"),
        ((GOOD,), {"y": torch.tensor([0, 1])}, "2 labels"),
        ((GOOD,), {"scale": torch.nan}, "not finite"),
        ((GOOD,), {"logits": lambda x: brightness().logits(x).softmax(1)}, "probabilities"),
        (
            (Adding(THREAT, partial(torch.full_like, fill_value=0.2)),),
            {},
            "adding: .*left its bounds",
        ),
        ((Adding(THREAT, partial(torch.full_like, fill_value=torch.nan)),), {}, "left its bounds"),
    ],
)
def test_refusals(attacks: tuple[Attack, ...], change: dict[str, object], words: str) -> None:
    given = {"x": torch.full((3, 1, 2, 2), 0.2), "y": torch.zeros(3, dtype=torch.int64), **change}
    target = brightness()
    if "scale" in change:
        target = replace(target, logits=lambda x: brightness().logits(x) * torch.nan)
    target = replace(target, **{k: v for k, v in change.items() if k in ("paths", "logits")})
    with pytest.raises(InputError, match=words):
        worst_case(target, attacks, given["x"], given["y"], Draws.of(0, torch.arange(3)))
