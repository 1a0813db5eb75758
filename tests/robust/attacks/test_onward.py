"""Attacks that start where others stopped: never worse than their start, allowed, per sample, counted."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.robust import Draws, GradientPath, Target, Threat
from spikemorph.robust.attacks.apgd import Apgd
from spikemorph.robust.attacks.base import goes_on
from spikemorph.robust.attacks.losses import margin
from spikemorph.robust.attacks.momentum_pgd import MomentumPgd
from spikemorph.robust.attacks.refine import Refine
from spikemorph.robust.attacks.square import Square
from spikemorph.robust.cascade.worst_case import worst_case

LINF, L2 = Threat("linf", 0.1), Threat("l2", 0.7)
SHAPE = (1, 6, 6)
WEIGHTS = Draws.of(5, torch.arange(1)).normal(12, 36)[0]
ATTACKS = (
    Refine(LINF, queries=60, patience=40),
    Square(LINF, queries=60, onward=True),
    Apgd(LINF, steps=6, onward=True),
    MomentumPgd(LINF, steps=6, onward=True),
)


def draws(n: int, seed: int = 0) -> Draws:
    return Draws.of(seed, torch.arange(n))


def plateaus(x: Tensor) -> Tensor:
    """Two logits: a lead, and the share of 12 units that are on, so that gradients vanish."""
    on = ((x.flatten(1).double() - 0.5) @ WEIGHTS.double().T > 0.8).double().mean(1)
    return torch.stack([torch.full_like(on, 0.4), on + 0 * x.flatten(1).sum(1)], 1)


def given(n: int, threat: Threat) -> tuple[Tensor, Tensor, Tensor]:
    """Images, labels, and starts in the ball."""
    x = draws(n).fork("images").uniform(*SHAPE)
    x = x[margin(plateaus(x), torch.zeros(n, dtype=torch.int64)) < 0]
    return x, torch.zeros(len(x), dtype=torch.int64), threat.start(x, draws(len(x)).fork("start"))


@pytest.mark.parametrize("threat", [LINF, L2], ids=lambda t: t.norm)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: a.name)
def test_never_worse_than_the_start_and_allowed(
    attack: Refine | Square | Apgd | MomentumPgd, threat: Threat
) -> None:
    attack, (x, y, start) = replace(attack, threat=threat), given(20, threat)
    found = attack(plateaus, x, y, draws(len(x)), start)
    threat.check(found, x)
    floor = torch.maximum(margin(plateaus(x), y), margin(plateaus(start), y))
    assert bool((margin(plateaus(found), y) >= floor).all())
    assert goes_on(attack) and not goes_on(replace(attack, onward=False))


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: a.name)
def test_a_start_changes_what_is_found_and_belongs_to_its_sample(
    attack: Refine | Square | Apgd | MomentumPgd,
) -> None:
    x, y, start = given(12, LINF)
    smooth = WEIGHTS[0].double().reshape(SHAPE)

    def model(z: Tensor) -> Tensor:
        score = (z.double() * smooth).flatten(1).sum(1)
        return torch.stack([score.new_full((len(z),), 1e3), score], 1)

    together = attack(model, x, y, draws(len(x)), start)
    alone = torch.cat(
        [
            attack(model, x[k : k + 1], y[k : k + 1], draws(len(x)).rows([k]), start[k : k + 1])  # type: ignore[arg-type]
            for k in range(len(x))
        ]
    )
    assert torch.equal(together, alone)
    if isinstance(attack, Refine | Square):
        assert not torch.equal(together, attack(model, x, y, draws(len(x))))


def test_refine_crosses_plateaus_that_stop_gradients() -> None:
    x, y, start = given(40, LINF)
    before = margin(plateaus(start), y)
    gradient = MomentumPgd(LINF, onward=True)(plateaus, x, y, draws(len(x)), start)
    refined = Refine(LINF, queries=400)(plateaus, x, y, draws(len(x)), start)
    assert torch.equal(
        margin(plateaus(gradient), y), torch.maximum(before, margin(plateaus(x), y))
    )  # there is no slope to follow
    assert float((margin(plateaus(refined), y) - before).mean()) > 0.1


def test_refine_counts_its_queries_and_ends_by_itself() -> None:
    x, y, start = given(12, LINF)
    asked: list[int] = []

    def model(z: Tensor) -> Tensor:
        asked.append(len(z))
        return torch.stack([z.new_full((len(z),), 9.0), z.new_zeros(len(z))], 1)

    search = Refine(LINF, queries=50, patience=7).search(model, x, y, draws(len(x)), start)
    assert search.queries.tolist() == [1 + 7] * len(x)  # the start, and seven that brought nothing
    assert sum(asked) == len(x) + int(search.queries.sum())  # the clean images are asked about, too
    search = Refine(LINF, queries=5, patience=7).search(model, x, y, draws(len(x)), start)
    assert search.queries.tolist() == [5] * len(x)


def test_refine_changes_between_one_number_and_the_widest_share() -> None:
    x, y, start = given(200, LINF)
    refine = Refine(LINF, widest=0.25)
    changed = (refine._proposal(x, start, draws(len(x))) != start).flatten(1).sum(1)
    assert int(changed.min()) <= 1 and 9 <= int(changed.max()) <= 18  # 9 of 36 are expected
    bounds = (refine._proposal(x, start, draws(len(x))) - x).abs()
    moved = refine._proposal(x, start, draws(len(x))) != start
    inside = moved & (x > 0.1) & (x < 0.9)
    torch.testing.assert_close(bounds[inside], torch.full_like(bounds[inside], 0.1))


def test_equal_margins_are_kept_so_that_a_search_drifts() -> None:
    x, y, start = given(4, LINF)

    def flat(z: Tensor) -> Tensor:
        return torch.stack([z.new_full((len(z),), 2.0), z.new_zeros(len(z))], 1)

    found = Refine(LINF, queries=30, patience=30)(flat, x, y, draws(len(x)), start)
    assert bool((found != start).flatten(1).any(1).all())


def test_the_cascade_hands_on_the_best_image_of_attacks_before() -> None:
    """The law of `worst_case` holds for attacks that go on: blocks and partners change nothing."""
    x, y, _ = given(30, LINF)
    seen: list[Tensor] = []

    class Spy(Refine):
        def __call__(self, model, x, y, draws, start=None):  # type: ignore[no-untyped-def]
            seen.append(start)
            return super().__call__(model, x, y, draws, start)

    target = Target("plateaus", plateaus, (GradientPath("own", plateaus),))
    first = Square(LINF, queries=20)
    chain = (first, Spy(LINF, queries=40))
    whole = worst_case(target, chain, x, y, draws(len(x)))
    (start,) = seen
    only = worst_case(target, (first,), x, y, draws(len(x)))
    stand = only.worst
    returned = first(plateaus, x, y, draws(len(x)).fork("square"))
    better = margin(plateaus(returned), y) > margin(plateaus(x), y)
    wanted = torch.where(better[:, None, None, None], returned, x)[stand]
    assert torch.equal(start, wanted)
    parts = worst_case(target, chain, x, y, draws(len(x)), block=7)
    assert torch.equal(parts.worst, whole.worst) and torch.equal(
        parts.adversarial, whole.adversarial
    )
    assert int(whole.worst.sum()) < int(stand.sum())


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Refine(LINF, queries=0), "0 queries"),
        (lambda: Refine(LINF, patience=0), "patience 0"),
        (lambda: Refine(LINF, widest=0.0), "up to 0.0"),
        (lambda: MomentumPgd(LINF, momentum=1.0), "momentum 1.0"),
        (lambda: MomentumPgd(LINF, steps=0), "0 steps"),
        (lambda: MomentumPgd(LINF, loss="no"), "loss 'no'"),
    ],
)
def test_wrong_settings_are_refused(make, complaint: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=complaint):
        make()
