"""The worst that a set of attacks, each on all gradient paths, does to every single sample.

The mean over samples of the worst member, never the worst member's mean over samples. The network
itself is the judge: a sample is broken if and only if `Target.logits` misclassifies an allowed image
of it, whatever the path says that led there.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from torch import Tensor

from spikemorph.graph import InputError

from ..attacks.base import Attack, run_from
from ..attacks.losses import margin, require_labels, require_logits
from ..draws import Draws
from ..target import Target
from ..threat import Threat, require_unit_range, wide
from .judged_model import Counters, JudgedModel, Regrouped, Rows, Stopped
from .members import Member, members_of
from .outcome import MemberOutcome, WorstCase, merge
from .patience import Patience

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
    patience: Patience | None = None,
    watch: Watch | None = None,
) -> WorstCase:
    """Run every attack, in the order given, on every sample that is still right.

    An attack that takes gradients is run on every path; put what is strong first. Members of one
    attack share a batch where `target.mixed` allows and few samples are left. A sample is done with
    as soon as some image that a member asks about is allowed and misclassified, unless the attack
    promises its last iterate. An attack that goes on (`Onward`) starts, on all its paths, at the image of
    the largest margin that attacks before it returned. Each member draws from a stream of its own, so
    that it does the same to a sample alone, and beside any others, and, unless it goes on, in any order
    (up to the rounding of batched sums).

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
    patience : Patience, optional
        Rounds of further attacks, which go on with every sample until one brings it nothing.
    watch : callable, optional
        Called after every member of every block.

    Raises
    ------
    InputError
        If there is nothing to do, threats differ, inputs, labels or logits are not what they should
        be, an attack needs gradients and there is no path, or an attack left its bounds.
    """
    members = members_of(target, attacks, patience)
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
        self.best = self.x.detach().clone()  # of samples that stand, by the margin
        self.margins = margin(self.logits, self.y)
        self.turn, self.before = 0, self.margins
        self.going = torch.ones_like(self.clean)  # by the last round's margins, not by the batch

    @property
    def threat(self) -> Threat:
        return self.members[0].attack.threat

    def run(
        self, block: int, only_survivors: bool, watch: Watch | None, count: tuple[int, int]
    ) -> WorstCase:
        """All members, in waves that share a batch of at most `block` images."""
        outcomes: list[MemberOutcome] = []
        for shared, group in self._groups(only_survivors):
            waiting, start = list(group), self.best.clone()  # the same for all paths of an attack
            self._turn(waiting[0].turn)
            while waiting:
                left = ((self.worst if only_survivors else self.clean) & self.going).nonzero()[:, 0]
                size = max(1, block // max(1, len(left))) if shared else 1
                wave, waiting = waiting[:size], waiting[size:]
                try:
                    outcomes += self._wave(wave, left, len(outcomes), start)
                except Regrouped:
                    shared, waiting = False, wave + waiting
                    continue
                if watch is not None:
                    watch(count[0] + len(outcomes), count[1])
        found = (self.clean, self.worst, self.broken_by, self.adversarial)
        return WorstCase(self.threat, *found, tuple(outcomes))

    def _turn(self, turn: int) -> None:
        """Begin a round: after the first one only samples go on that the one before brought nearer."""
        if turn == self.turn:
            return
        if turn > 1:
            self.going &= self.margins > self.before
        self.turn, self.before = turn, self.margins.clone()

    def _groups(self, only_survivors: bool) -> Iterator[tuple[bool, Iterator[Member]]]:
        """Consecutive members that may share batches, each with whether they may."""

        def alike(member: Member) -> tuple[int, int, bool]:
            mixes = self.target.mixed is not None and member.path is not None and member.exact
            mixes = mixes and not member.remembers
            return id(member.attack), member.turn, mixes and only_survivors

        for (_, _, mixes), group in groupby(self.members, key=alike):
            yield mixes, group

    def _wave(
        self, wave: list[Member], left: Tensor, first: int, start: Tensor
    ) -> list[MemberOutcome]:
        """Run members on the samples at `left`, as if one after the other."""
        if not len(left):
            return [member.outcome(0, 0, 0.0) for member in wave]
        began = time.perf_counter()
        counters = Counters.none(len(wave), self.y)
        rows = self._rows(wave, left, start)
        batch = _Batch(self.target, wave, self.threat, rows, counters)
        clean = self.logits[left].repeat(len(wave), 1)
        images, wrong, margins = (found.unflatten(0, (len(wave), -1)) for found in batch.run(clean))
        seconds = (time.perf_counter() - began) / len(wave)
        outcomes, still = [], torch.ones_like(wrong[0])
        for number, member in enumerate(wave):
            broken = wrong[number] & still
            outcomes.append(member.outcome(int(still.sum()), int(broken.sum()), seconds))
            self._enter(left[broken], images[number][broken], first + number)
            still = still & ~broken
            self._keep(left, images[number], margins[number])
        return [_counted(one, counters, number) for number, one in enumerate(outcomes)]

    def _keep(self, samples: Tensor, images: Tensor, margins: Tensor) -> None:
        """Note the images that came nearer than all before."""
        nearer = margins > self.margins[samples]
        self.best[samples[nearer]] = images[nearer]
        self.margins[samples[nearer]] = margins[nearer]

    def _rows(self, wave: list[Member], left: Tensor, start: Tensor) -> Rows:
        """Every sample once for every member."""
        size = len(left)
        seeds = [self.draws.fork(member.name).rows(left).seeds for member in wave]
        judged = [
            m.exact and not m.remembers and not getattr(m.attack, "last_iterate", False)
            for m in wave
        ]
        number = torch.arange(len(wave), device=left.device).repeat_interleave(size)
        return Rows(
            self.x[left].repeat(len(wave), *[1] * (self.x.dim() - 1)),
            self.y[left].repeat(len(wave)),
            Draws(torch.cat(seeds)),
            torch.arange(size, device=left.device).repeat(len(wave)),
            number,
            torch.tensor(judged, device=left.device)[number],
            start[left].repeat(len(wave), *[1] * (start.dim() - 1)),
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

    def run(self, clean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(row, *shape) images, (row,) whether the network misclassifies them, and their margins.

        A row that stopped at an image which the network takes rightly after all (its path claims to
        be exact, and is not quite) is run again without stopping.
        """
        images, margins, wrong, dropped, caught = self._attempt(self.rows, clean)
        mistaken = torch.zeros_like(wrong)
        mistaken[self.rows.sample[caught & ~wrong]] = True  # by sample
        again = mistaken[self.rows.sample]
        if bool(again.any()):
            rows = self.rows.some(again, judged=False)
            images[again], margins[again], wrong[again], _, _ = self._attempt(rows, None)
        return images, wrong & (~dropped | again), margins

    def _attempt(self, rows: Rows, clean: Tensor | None) -> tuple[Tensor, ...]:
        """Images, their margins, and of each row whether it is wrong, was given up, was caught."""
        exact = all(member.exact for member in self.wave)
        judged = JudgedModel(
            self._begun(), rows, self.threat, self.counters, clean if exact else None
        )
        try:
            attack = self.wave[0].attack
            returned = run_from(attack, judged, rows.x, rows.y, rows.draws, rows.start)
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
        logits = _quiet(self.target, images)
        wrong = logits.argmax(1) != rows.y
        return images, margin(logits, rows.y), wrong, dropped, judged.caught

    def _begun(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The network for one run of the attack: images and members to logits."""
        path = self.wave[0].path
        if path is None or path.begin is None:
            return self._model
        own = path.begin()
        return lambda images, _: own(images)

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
