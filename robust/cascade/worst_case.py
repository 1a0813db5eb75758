"""The worst that a set of attacks, each on all gradient paths, does to every single sample.

The mean over samples of the worst member, never the worst member's mean over samples. The network
itself is the judge: a sample is broken if and only if `Target.logits` misclassifies an allowed image
of it, whatever the path says that led there.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

import torch
from torch import Tensor

from spikemorph.graph import InputError

from ..attacks.base import Attack
from ..attacks.losses import require_labels, require_logits
from ..draws import Draws
from ..target import GradientPath, Target
from ..threat import Threat, require_unit_range, wide
from .judged_model import Counters, JudgedModel, Regrouped, Rows, Stopped
from .outcome import MemberOutcome, WorstCase, merge

BLOCK = 100
Watch = Callable[[int, int], None]  # members finished, and in all, counted over all blocks


def worst_case(
    target: Target,
    attacks: Sequence[Attack],
    x: Tensor,
    y: Tensor,
    draws: Draws,
    *,
    block: int = BLOCK,
    only_survivors: bool = True,
    watch: Watch | None = None,
) -> WorstCase:
    """Run every attack, in the order given, on every sample that is still right.

    An attack that takes gradients is run on every path; put what is strong first. Members of one
    attack share a batch where `target.mixed` allows and few samples are left. A sample is done with
    as soon as some image that a member asks about is allowed and misclassified, unless the attack
    promises its last iterate. Each member draws from a stream of its own, so that it does the same
    to a sample alone, in any order, and beside any others (up to the rounding of batched sums).

    Parameters
    ----------
    target : Target
        The network and its gradient paths.
    attacks : sequence of Attack
        All under one threat.
    x, y : Tensor
        (sample, *shape) in [0, 1]; (sample,) int64 labels.
    draws : Draws
        One stream for each sample.
    block : int
        Images in one batch. The result of a block does not depend on other blocks.
    only_survivors : bool
        Whether members leave out what others have broken; without, each is run on all samples that
        are right at first, and its counts are those of the member alone.
    watch : callable, optional
        Called after every member of every block.

    Raises
    ------
    InputError
        If there is nothing to do, threats differ, inputs, labels or logits are not what they should
        be, an attack needs gradients and there is no path, or an attack left its bounds.
    """
    members = members_of(target, attacks)
    _require_samples(x, y, draws, block)
    parts: list[WorstCase] = []
    total = len(members) * -(-len(x) // block)
    for start in range(0, len(x), block):
        rows = slice(start, start + block)
        try:
            cascade = _Cascade(target, x[rows], y[rows], Draws(draws.seeds[rows]), members)
        except InputError as error:
            raise error.under(f"of the samples from {start} on") from error
        done = len(parts) * len(members)
        parts.append(cascade.run(block, only_survivors, watch, (done, total)))
    return merge(parts)


@dataclass(frozen=True, eq=False)
class Member:
    """An attack, on one path where it takes gradients; `place` is the path's in the target."""

    attack: Attack
    path: GradientPath | None = None
    place: int = 0

    @property
    def name(self) -> str:
        """What its streams are forked by."""
        return self.attack.name if self.path is None else f"{self.attack.name}/{self.path.name}"

    @property
    def exact(self) -> bool:
        """Whether its queries show what the network itself says."""
        return self.path is None or self.path.exact

    @property
    def cost(self) -> int:
        """Forward passes on a sample that stands, about; one with a gradient is worth three."""
        setting = partial(getattr, self.attack)
        tries = setting("steps", None) or setting("queries", None) or setting("draws", 1)
        again = setting("restarts", None) or setting("targets", None) or 1
        return int(tries * again * (1 if self.path is None else 3))

    def outcome(self, attacked: int, broken: int, seconds: float) -> MemberOutcome:
        """What it did, without counts of its queries."""
        setting = partial(getattr, self.attack)  # not all attacks have all of these
        return MemberOutcome(
            attack=self.attack.name,
            path=None if self.path is None else self.path.name,
            loss=setting("loss", None),
            steps=setting("steps", None),
            step_size=setting("step_size", None),
            restarts=setting("restarts", None),
            attacked=attacked,
            broken=broken,
            zero_gradient_fraction=None,
            nan_gradient_fraction=None,
            queries=0,
            seconds=seconds,
        )


def members_of(target: Target, attacks: Sequence[Attack]) -> tuple[Member, ...]:
    """Attacks times paths where gradients are taken, attacks alone otherwise.

    Raises
    ------
    InputError
        If there is no attack, threats differ, or there is no path for an attack.
    """
    if not attacks:
        raise InputError("no attack is given; name at least one")
    found: list[Member] = []
    for attack in attacks:
        if attack.threat != attacks[0].threat:
            raise InputError(
                f"{attacks[0].name} is under {attacks[0].threat}, {attack.name} under "
                f"{attack.threat}: one evaluation has one threat; make one for each"
            )
        if attack.gradients and not target.paths:
            raise InputError(
                f"{attack.name} takes gradients and {target.name} has no gradient path: give it "
                "one, or use attacks without gradients (square)"
            )
        paths = enumerate(target.paths) if attack.gradients else ()
        found += [Member(attack, path, place) for place, path in paths]
        found += [] if attack.gradients else [Member(attack)]
    return tuple(found)


def _require_samples(x: Tensor, y: Tensor, draws: Draws, block: int) -> None:
    if block < 1:
        raise InputError(f"blocks of {block} samples: give 1 or more")
    if not len(x) == len(y) == len(draws) or not len(x):
        raise InputError(
            f"{len(x)} images, {len(y)} labels and {len(draws)} streams of draws: give one of each "
            "for every sample, and at least one sample"
        )
    require_unit_range(x)


@dataclass(eq=False)
class _Cascade:
    """One block of samples on its way through all members."""

    target: Target
    x: Tensor
    y: Tensor
    draws: Draws
    members: tuple[Member, ...]

    def __post_init__(self) -> None:
        self.logits = _quiet(self.target, self.x)
        require_logits(self.logits)
        require_labels(self.y, self.logits)
        self.clean = self.logits.argmax(1) == self.y
        self.worst = self.clean.clone()
        self.broken_by = torch.full_like(self.y, -1)
        self.adversarial = self.x.detach().clone()

    @property
    def threat(self) -> Threat:
        return self.members[0].attack.threat

    def run(
        self, block: int, only_survivors: bool, watch: Watch | None, count: tuple[int, int]
    ) -> WorstCase:
        """All members, in waves that share a batch of at most `block` images."""
        outcomes: list[MemberOutcome] = []
        for shared, group in self._groups(only_survivors):
            waiting = list(group)
            while waiting:
                left = (self.worst if only_survivors else self.clean).nonzero()[:, 0]
                size = max(1, block // max(1, len(left))) if shared else 1
                wave, waiting = waiting[:size], waiting[size:]
                try:
                    outcomes += self._wave(wave, left, len(outcomes))
                except Regrouped:
                    shared, waiting = False, wave + waiting
                    continue
                if watch is not None:
                    watch(count[0] + len(outcomes), count[1])
        found = (self.clean, self.worst, self.broken_by, self.adversarial)
        return WorstCase(self.threat, *found, tuple(outcomes))

    def _groups(self, only_survivors: bool) -> Iterator[tuple[bool, Iterator[Member]]]:
        """Consecutive members that may share batches, each with whether they may."""

        def alike(member: Member) -> tuple[int, bool]:
            mixes = self.target.mixed is not None and member.path is not None and member.exact
            return id(member.attack), mixes and only_survivors

        for (_, mixes), group in groupby(self.members, key=alike):
            yield mixes, group

    def _wave(self, wave: list[Member], left: Tensor, first: int) -> list[MemberOutcome]:
        """Run members on the samples at `left`, as if one after the other."""
        if not len(left):
            return [member.outcome(0, 0, 0.0) for member in wave]
        began = time.perf_counter()
        counters = Counters.none(len(wave), self.y)
        batch = _Batch(self.target, wave, self.threat, self._rows(wave, left), counters)
        clean = self.logits[left].repeat(len(wave), 1)
        images, wrong = (found.unflatten(0, (len(wave), -1)) for found in batch.run(clean))
        seconds = (time.perf_counter() - began) / len(wave)
        outcomes, still = [], torch.ones_like(wrong[0])
        for number, member in enumerate(wave):
            broken = wrong[number] & still
            outcomes.append(member.outcome(int(still.sum()), int(broken.sum()), seconds))
            self._enter(left[broken], images[number][broken], first + number)
            still = still & ~broken
        return [_counted(one, counters, number) for number, one in enumerate(outcomes)]

    def _rows(self, wave: list[Member], left: Tensor) -> Rows:
        """Every sample once for every member."""
        size = len(left)
        seeds = [self.draws.fork(member.name).rows(left).seeds for member in wave]
        judged = [m.exact and not getattr(m.attack, "last_iterate", False) for m in wave]
        number = torch.arange(len(wave), device=left.device).repeat_interleave(size)
        return Rows(
            self.x[left].repeat(len(wave), *[1] * (self.x.dim() - 1)),
            self.y[left].repeat(len(wave)),
            Draws(torch.cat(seeds)),
            torch.arange(size, device=left.device).repeat(len(wave)),
            number,
            torch.tensor(judged, device=left.device)[number],
        )

    def _enter(self, samples: Tensor, images: Tensor, member: int) -> None:
        """Note what a member broke; the first member that breaks a sample keeps it."""
        new = self.worst[samples]
        self.worst[samples] = False
        self.broken_by[samples[new]] = member
        self.adversarial[samples[new]] = images[new]


@dataclass(frozen=True, eq=False)
class _Batch:
    """Some members of one attack on one batch."""

    target: Target
    wave: list[Member]
    threat: Threat
    rows: Rows
    counters: Counters

    def run(self, clean: Tensor) -> tuple[Tensor, Tensor]:
        """(row, *shape) images, and (row,) whether the network misclassifies them.

        A row that stopped at an image which the network takes rightly after all (its path claims to
        be exact, and is not quite) is run again without stopping.
        """
        images, wrong, dropped, caught = self._attempt(self.rows, clean)
        mistaken = torch.zeros_like(wrong)
        mistaken[self.rows.sample[caught & ~wrong]] = True  # by sample
        again = mistaken[self.rows.sample]
        if bool(again.any()):
            rows = self.rows.some(again, judged=False)
            images[again], wrong[again], _, _ = self._attempt(rows, None)
        return images, wrong & (~dropped | again)

    def _attempt(self, rows: Rows, clean: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        exact = all(member.exact for member in self.wave)
        judged = JudgedModel(
            self._model, rows, self.threat, self.counters, clean if exact else None
        )
        try:
            returned = self.wave[0].attack(judged, rows.x, rows.y, rows.draws)
        except Stopped:
            returned = None
        except InputError as error:
            raise error.under(self._names()) from error
        images, dropped = judged.images(returned), judged.dropped
        images = torch.where(wide(dropped, images), rows.x, images)
        try:
            self.threat.check(images, rows.x)
        except InputError as error:
            raise error.under(self._names()) from error
        wrong = _quiet(self.target, images).argmax(1) != rows.y
        return images, wrong, dropped, judged.caught

    def _model(self, images: Tensor, member: Tensor) -> Tensor:
        if len(self.wave) > 1 and self.target.mixed is not None:
            places = torch.tensor([one.place for one in self.wave], device=member.device)
            return self.target.mixed(images, places[member])
        path = self.wave[0].path
        return self.target.logits(images) if path is None else path.logits(images)

    def _names(self) -> str:
        return ", ".join(member.name for member in self.wave)


@torch.no_grad()
def _quiet(target: Target, x: Tensor) -> Tensor:
    """What the network itself says."""
    return target.logits(x).detach()


def _counted(outcome: MemberOutcome, counters: Counters, number: int) -> MemberOutcome:
    """With the counts of one member of a batch."""
    queries, gradients, zero, lost = (
        int(one[number])
        for one in (counters.queries, counters.gradients, counters.zero, counters.broken_off)
    )
    shares = (zero / gradients, lost / gradients) if gradients else (None, None)
    return replace(
        outcome,
        queries=queries,
        gradients=gradients,
        zero_gradient_fraction=shares[0],
        nan_gradient_fraction=shares[1],
    )
