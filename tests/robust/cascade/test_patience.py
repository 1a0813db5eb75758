"""Rounds go on with a sample until one brings it nothing; they never undo, and see no other sample."""

import pytest
import torch
from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.robust import Draws, GradientPath, Target, Threat
from spikemorph.robust.attacks.fgsm import Fgsm
from spikemorph.robust.attacks.square import Square
from spikemorph.robust.cascade.outcome import WorstCase
from spikemorph.robust.cascade.patience import Patience
from spikemorph.robust.cascade.worst_case import worst_case
from spikemorph.robust.target import Logits

THREAT, N = Threat("linf", 0.12), 24
WEIGHTS = Draws.of(5, torch.arange(1)).normal(16, 36)[0].double()
ROUNDS = Patience(steps=2, queries=30, rounds=3)


def plateaus(x: Tensor) -> Tensor:
    """A lead, and the share of 16 units that are on: gradients vanish. Dark images have none."""
    alive = (x.flatten(1).amax(1) > 0.5).double()
    on = ((x.flatten(1).double() - 0.5) @ WEIGHTS.T > 1.0).double().mean(1) * alive
    return torch.stack([torch.full_like(on, 0.4), on + 0 * x.flatten(1).sum(1)], 1)


TARGET = Target("plateaus", plateaus, (GradientPath("own", plateaus),))


def run(x: Tensor, rows: slice, patience: Patience | None, block: int = 100) -> WorstCase:
    draws = Draws.of(0, torch.arange(N))
    labels = torch.zeros(N, dtype=torch.int64)
    attacks = (Fgsm(THREAT), Square(THREAT, 5))
    own = Draws(draws.seeds[rows])
    return worst_case(TARGET, attacks, x[rows], labels[rows], own, block=block, patience=patience)


@pytest.fixture(scope="module")
def images() -> Tensor:
    """The last four are dark, so that nothing ever brings them nearer."""
    x = Draws.of(1, torch.arange(N)).uniform(1, 6, 6)
    x[-4:] *= 0.1
    return x


def test_rounds_break_more_and_undo_nothing(images: Tensor) -> None:
    before, after = (run(images, slice(None), patience) for patience in (None, ROUNDS))
    assert bool((after.worst <= before.worst).all()) and after.accuracy < before.accuracy
    broken = before.broken_by >= 0
    assert torch.equal(after.broken_by[broken], before.broken_by[broken])
    THREAT.check(after.adversarial, images)


def test_a_sample_that_a_round_brought_nothing_is_left_alone(images: Tensor) -> None:
    found = run(images, slice(None), ROUNDS)
    by_turn = [[m for m in found.members if m.turn == turn] for turn in range(4)]
    assert [[m.name for m in members] for members in by_turn[1:]] == [
        [f"best:pgd-margin/own round {turn}", f"refine round {turn}"] for turn in (1, 2, 3)
    ]
    assert all(m.onward for members in by_turn[1:] for m in members)
    asked = [members[0].attacked for members in by_turn[1:]]
    standing = int(run(images, slice(None), None).worst.sum())
    assert asked[0] == standing and 0 < asked[1] <= asked[0] - 4
    dark = run(images, slice(N - 4, N), ROUNDS)
    assert [m.attacked for m in dark.members if m.turn > 1] == [0] * 4
    assert [m.queries for m in dark.members if m.turn == 1 and m.attack == "refine"] == [
        4 * 29
    ]  # of the clean image the answer is known


def test_rounds_belong_to_samples(images: Tensor) -> None:
    """Blocks of any size, and a sample alone, end the same."""
    whole = run(images, slice(None), ROUNDS)
    parts = run(images, slice(None), ROUNDS, block=7)
    alone = [run(images, slice(k, k + 1), ROUNDS) for k in range(N)]
    for one in (parts.worst, torch.cat([found.worst for found in alone])):
        assert torch.equal(one, whole.worst)
    for images_of in (parts.adversarial, torch.cat([found.adversarial for found in alone])):
        assert torch.equal(images_of, whole.adversarial)
    counts = [sum(found.members[k].attacked for found in alone) for k in range(len(whole.members))]
    assert counts == [member.attacked for member in whole.members]


def test_all_paths_of_an_attack_that_goes_on_start_alike(images: Tensor) -> None:
    """What one path finds is handed to the next attack, not to the next path: waves change nothing."""
    given: list[Tensor | None] = []

    class Spy(Square):
        gradients = True

        def __call__(
            self, model: Logits, x: Tensor, y: Tensor, draws: Draws, start: Tensor | None = None
        ) -> Tensor:
            given.append(start)
            return super().__call__(model, x, y, draws, start)

    y, draws = torch.zeros(4, dtype=torch.int64), Draws.of(0, torch.arange(N - 4, N))
    slope = Draws.of(2, torch.arange(1)).normal(36).double()

    def steady(x: Tensor) -> Tensor:
        """Every image that leads along the slope is nearer, and none is an error."""
        return torch.cat(
            [x.new_full((len(x), 1), 99.0).double(), x.flatten(1).double() @ slope.T], 1
        )

    target = Target("steady", steady, tuple(GradientPath(k, steady) for k in "ab"))
    worst_case(target, (Spy(THREAT, 30, onward=True),), images[-4:], y, draws)
    first, second = given
    assert first is not None and second is not None and torch.equal(first, second)


def test_without_paths_a_round_is_the_search(images: Tensor) -> None:
    blind = Target("blind", plateaus, ())
    y, draws = torch.zeros(N, dtype=torch.int64), Draws.of(0, torch.arange(N))
    found = worst_case(blind, (Square(THREAT, 5),), images, y, draws, patience=ROUNDS)
    assert [m.attack for m in found.members] == ["square", "refine", "refine", "refine"]


@pytest.mark.parametrize("change", [{"steps": 0}, {"queries": 0}, {"rounds": 0}])
def test_rounds_of_nothing_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(InputError, match="give 1 or more of each"):
        Patience(**change)
