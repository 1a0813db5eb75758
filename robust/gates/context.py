"""What gates look at: a network, some samples, a threat, and measurements that several share."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property

import torch
from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.graph.brief import brief_repr

from ..attacks.base import Attack, run_from
from ..attacks.losses import require_logits
from ..attacks.pgd import Pgd
from ..cascade.outcome import MemberOutcome, WorstCase
from ..draws import Draws
from ..intervals import wilson
from ..target import GradientPath, Logits, Target
from ..threat import Threat

# Parts of the range of inputs; a masked gradient often shows at large distances only (Carlini et
# al. 2019: accuracy against eps, up to where it is chance).
HALF, WHOLE = 0.5, 1.0  # of the range of inputs: solid grey is allowed; everything is
LADDER = (*(level / 255 for level in (0, 1, 2, 4, 8, 16, 32, 64)), HALF, 128 / 255, WHOLE)


@dataclass(frozen=True)
class GateSettings:
    """What gates may cost.

    Parameters
    ----------
    samples : int
        The first so many samples are used.
    only : tuple of str, optional
        Names of the gates to run; all by default.
    paths : int
        How many gradient paths, the strongest of the sweep, the repeated attacks take.
    steps, sweep_steps : int
        Of the repeated attacks; of the sweep over all paths.
    convergence : tuple of int
        Numbers of steps, growing; restarts likewise.
    restarts : tuple of int
        Numbers of random starts.
    queries, noise : int
        Queries of the gradient-free attack, and random images, for every sample.
    probes, directions : int
        Samples whose gradient is compared with differences, and directions for each.
    batch : int
        Samples at once.
    """

    samples: int = 50
    only: tuple[str, ...] | None = None
    paths: int = 2
    steps: int = 20
    sweep_steps: int = 10
    convergence: tuple[int, ...] = (10, 20, 40, 100)
    restarts: tuple[int, ...] = (1, 5, 10)
    queries: int = 500
    noise: int = 200
    probes: int = 8
    directions: int = 32
    batch: int = 100

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "only":
                continue
            if not value or min(value if isinstance(value, tuple) else (value,)) < 1:
                raise InputError(f"gates: {item.name} is {value}; give 1 or more")
            if isinstance(value, tuple) and list(value) != sorted(set(value)):
                raise InputError(f"gates: {item.name} is {value}; give growing numbers")


@dataclass(frozen=True)
class Companions:
    """Other networks and facts that some gates need; those gates are not run without them.

    Parameters
    ----------
    undefended : Target, optional
        A network of the same kind that was trained without attacks.
    transfer : tuple of Target
        Networks whose adversarial images may carry over: the ANN twin, another seed.
    coarse : Target, optional
        The network on an 8-bit input grid; by default inputs are rounded in front of it.
    other_steps : tuple of Target
        The network run for other numbers of time steps, for an attacker who counts them wrong.
    trained : str, optional
        The name of the gradient path that the network was trained by.
    """

    undefended: Target | None = None
    transfer: tuple[Target, ...] = ()
    coarse: Target | None = None
    other_steps: tuple[Target, ...] = ()
    trained: str | None = None


@dataclass(frozen=True, eq=False)
class Samples:
    """Images (sample, *shape) in [0, 1], int64 labels, and indices in the data set."""

    x: Tensor
    y: Tensor
    indices: Tensor

    __repr__ = brief_repr

    def rows(self, chosen: Tensor) -> "Samples":
        """Some of them, by index or mask."""
        return Samples(self.x[chosen], self.y[chosen], self.indices[chosen])

    def named(self, mask: Tensor) -> tuple[int, ...]:
        """The indices of those in the mask."""
        return tuple(int(index) for index in self.indices[mask])

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, eq=False)
class Attacked:
    """What attacks left: who is still right, (sample,) bool, and the last images tried."""

    standing: Tensor
    images: Tensor

    __repr__ = brief_repr

    @property
    def robust(self) -> float:
        """Percentage still right."""
        return percent(self.standing)

    @property
    def count(self) -> int:
        """How many are still right."""
        return int(self.standing.sum())


@dataclass(frozen=True, eq=False)
class GateContext:
    """A network under test; what is measured for several gates is measured once.

    Parameters
    ----------
    target : Target
        The network.
    samples : Samples
        Those that gates run on.
    threat : Threat
        The largest that was evaluated.
    seed : int
        Of all draws.
    settings : GateSettings
        What it may cost.
    companions : Companions
        Other networks to compare with.
    worst : tuple of WorstCase
        What the evaluation found; its samples begin with `samples`, in the same order.
    """

    target: Target
    samples: Samples
    threat: Threat
    seed: int = 0
    settings: GateSettings = field(default_factory=GateSettings)
    companions: Companions = field(default_factory=Companions)
    worst: tuple[WorstCase, ...] = ()

    __repr__ = brief_repr

    @cached_property
    def logits(self) -> Tensor:
        """(sample, class) of the clean samples."""
        return self.forward(self.target.logits, self.samples.x)

    @cached_property
    def clean(self) -> Tensor:
        """(sample,) whether the network is right without any attack."""
        return self.logits.argmax(1) == self.samples.y

    @torch.no_grad()
    def forward(self, model: Logits, x: Tensor) -> Tensor:
        """Logits, so many samples at once as the settings say."""
        return torch.cat([model(part).detach() for part in torch.split(x, self.settings.batch)])

    def attack(
        self,
        attack: Attack,
        models: Sequence[Logits],
        *,
        judge: Logits | None = None,
        fork: str = "gates",
        after: "Attacked | None" = None,
    ) -> Attacked:
        """Attack through one model after the other; only samples that still stand go on.

        `judge` says who stands, by default the target; what it has wrong already is not attacked. Of
        what was `after`, an attack that goes on takes the images to start at; who fell stays down.
        """
        judge = self.target.logits if judge is None else judge
        clean = self.forward(judge, self.samples.x).argmax(1) == self.samples.y
        standing, images = clean.clone(), self.samples.x.clone()
        if after is not None:
            standing, images = clean & after.standing, after.images.clone()
        for number, model in enumerate(models):
            draws = Draws.of(self.seed, self.samples.indices).fork(fork).fork(number)
            for part in torch.split(standing.nonzero()[:, 0], self.settings.batch):
                x, y = self.samples.x[part], self.samples.y[part]
                start = None if after is None else images[part]
                found = run_from(attack, model, x, y, draws.rows(part), start)
                images[part] = found.detach().to(images)
                standing[part] = self.forward(judge, images[part]).argmax(1) == y
        return Attacked(standing, images)

    @cached_property
    def sweep(self) -> tuple[tuple[GradientPath, Attacked], ...]:
        """Every path attacked alone, strongest first."""
        attack = Pgd(self.threat, steps=self.settings.sweep_steps)
        found = [(path, self.attack(attack, [path.logits])) for path in self.target.paths]
        return tuple(sorted(found, key=lambda item: int(item[1].standing.sum())))

    @cached_property
    def best(self) -> tuple[Logits, ...]:
        """The strongest paths, which the repeated attacks take."""
        return tuple(path.logits for path, _ in self.sweep[: self.settings.paths])

    def asks(self, *names: str) -> bool:
        """Whether the settings ask for any of these gates."""
        only = self.settings.only
        return only is None or any(name in only for name in names)

    @property
    def usable(self) -> bool:
        """Whether the network returns finite logits, so that attacks take it."""
        return logits_problem(self.logits) is None

    @cached_property
    def white_box(self) -> Tensor:
        """(sample,) who stands after all that was tried with gradients, the evaluation included."""
        standing = self.clean.clone()
        for _, found in self.sweep:
            standing &= found.standing
        for _, found in self.by_steps:
            standing &= found.standing
        return standing & self.evaluated_white_box

    @property
    def evaluated_white_box(self) -> Tensor:
        """(sample,) who stood after the evaluation's gradient attacks under this threat.

        Its rounds do not count: their gradients start at what a search without gradients found.
        """
        standing = torch.ones_like(self.clean)
        for outcome in self.worst:
            if outcome.threat == self.threat:
                for number, member in enumerate(outcome.members):
                    if member.path is not None and not member.turn:
                        standing &= (outcome.broken_by[: len(standing)] != number).to(
                            standing.device
                        )
        return standing

    def broken_without_gradients(self, attack: str) -> tuple[float, Tensor] | None:
        """What the evaluation's attack of this name broke of what its gradients had left.

        An eps, where these are most, and (sample,), of all samples of the evaluation, whether it did;
        None where no such attack came after all that take gradients, but for those of rounds.
        """
        found: list[tuple[float, Tensor]] = []
        for outcome in self.worst:
            gradients = (n for n, m in enumerate(outcome.members) if m.path and not m.turn)
            last = max(gradients, default=None)
            late = [n for n, m in enumerate(outcome.members) if last is not None and n > last]
            if own := [n for n in late if outcome.members[n].attack == attack]:
                mask = torch.isin(outcome.broken_by, torch.tensor(own).to(outcome.broken_by))
                found.append((outcome.threat.eps, mask))
        return max(found, key=lambda pair: int(torch.count_nonzero(pair[1])), default=None)

    @property
    def evaluated(self) -> tuple[MemberOutcome, ...]:
        """The members of the evaluation under this threat."""
        return tuple(
            member
            for outcome in self.worst
            if outcome.threat == self.threat
            for member in outcome.members
        )

    @cached_property
    def by_steps(self) -> tuple[tuple[int, Attacked], ...]:
        """The repeated attack with growing numbers of steps."""
        return tuple(
            (steps, self.attack(Pgd(self.threat, steps=steps), self.best))
            for steps in (self.settings.convergence if self.best else ())
        )

    @cached_property
    def by_eps(self) -> tuple[tuple[float, Attacked], ...]:
        """The repeated attack at every eps of the ladder; nothing is carried from one to the next.

        Where half of the range or more is allowed, through all paths: there nothing may survive.
        """
        everything = tuple(path.logits for path, _ in self.sweep)
        return tuple(
            (eps, self.attack(Pgd(threat, steps=self.settings.steps), models))
            for eps in LADDER
            for threat in (ladder_threat(self.threat, self.samples.x, eps),)
            for models in (everything if eps >= HALF else self.best,)
            if models
        )


def ladder_threat(threat: Threat, x: Tensor, part: float) -> Threat:
    """A part of the range of inputs for every pixel; for "l2" the ball around that cube.

    So a half always holds solid grey, and the whole every image.
    """
    return Threat(threat.norm, part if threat.norm == "linf" else part * x[0].numel() ** 0.5)


def clear(count: int, n: int, points: float) -> bool:
    """Whether `count` of `n` is more than so many points, beyond what chance explains (95 %)."""
    return count > 0 and wilson(count, n)[0] > points


def logits_problem(logits: Tensor) -> str | None:
    """What is wrong with the logits, in words, if anything."""
    try:
        require_logits(logits)
    except InputError as error:
        return str(error)
    return None


def percent(mask: Tensor) -> float:
    """Percentage of true ones, 0..100; of none: 0."""
    return 100 * float(mask.double().mean()) if len(mask) else 0.0


def share(mask: Tensor) -> str:
    """In words: a percentage with its interval."""
    low, high = wilson(int(mask.sum()), len(mask))
    return f"{percent(mask):.1f} % ({low:.1f} to {high:.1f} %, n = {len(mask)})"
