"""What an evaluation found: for every sample, whether anything broke it, what, and by which image."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.graph.brief import brief_repr
from spikemorph.graph.fields import filled
from spikemorph.graph.plain import Plain

from ..intervals import wilson
from ..threat import Threat


@dataclass(frozen=True)
class MemberOutcome:
    """What one member of an ensemble did: an attack, on one gradient path where it needs gradients.

    Parameters
    ----------
    attack : str
        Its name: ``pgd``, ``apgd-ce``.
    path : str, optional
        The gradient path; None where the attack asks for logits only.
    loss, steps, step_size, restarts
        The attack's settings, where it has them.
    attacked : int
        Samples it was run on.
    broken : int
        Of these, the samples that the network then misclassified.
    zero_gradient_fraction, nan_gradient_fraction : float, optional
        Shares, 0..1, of the input gradients it took that were zero in every pixel, and that were
        not finite in some pixel (the attack was given zeros then). None if it took none.
    queries : int
        Images it put through the network.
    seconds : float
        Wall clock; in a batch that members shared, an equal part.
    gradients : int
        Input gradients it took.
    onward : bool
        Whether it started at the best image of all attacks before it.
    turn : int
        0 in the ensemble; in the rounds after it (see `Patience`) which of them.
    """

    attack: str
    path: str | None
    loss: str | None
    steps: int | None
    step_size: float | None
    restarts: int | None
    attacked: int
    broken: int
    zero_gradient_fraction: float | None
    nan_gradient_fraction: float | None
    queries: int
    seconds: float
    gradients: int = 0
    onward: bool = False
    turn: int = 0

    @property
    def name(self) -> str:
        """Attack and path, and its round: what tells members of one ensemble apart."""
        name = self.attack if self.path is None else f"{self.attack}/{self.path}"
        return f"{name} round {self.turn}" if self.turn else name

    def to_dict(self) -> dict[str, Plain]:
        """Plain JSON; the attack stands under ``name``."""
        plain = asdict(self)
        return {"name": plain.pop("attack"), **plain}

    @classmethod
    def from_dict(cls, plain: dict[str, Plain]) -> "MemberOutcome":
        """Read what `to_dict` wrote; InputError, naming the key, if it did not."""
        renamed = {"attack" if key == "name" else key: value for key, value in plain.items()}
        return filled(cls, renamed, "member")

    def __add__(self, other: "MemberOutcome") -> "MemberOutcome":
        """What the same member did to two sets of samples together."""
        count = self.gradients + other.gradients
        return replace(
            self,
            attacked=self.attacked + other.attacked,
            broken=self.broken + other.broken,
            zero_gradient_fraction=_share(
                self._taken(self.zero_gradient_fraction)
                + other._taken(other.zero_gradient_fraction),
                count,
            ),
            nan_gradient_fraction=_share(
                self._taken(self.nan_gradient_fraction) + other._taken(other.nan_gradient_fraction),
                count,
            ),
            queries=self.queries + other.queries,
            seconds=self.seconds + other.seconds,
            gradients=count,
        )

    def _taken(self, fraction: float | None) -> int:
        return round((fraction or 0.0) * self.gradients)


def _share(count: int, of: int) -> float | None:
    return count / of if of else None


@dataclass(frozen=True, eq=False)
class WorstCase:
    """The worst that any member did to every sample.

    Parameters
    ----------
    threat : Threat
        What all members were allowed.
    clean : Tensor
        (sample,) bool: the network classifies the clean image correctly.
    worst : Tensor
        (sample,) bool: it still does after all members.
    broken_by : Tensor
        (sample,) int64: the first member that broke the sample, by index; -1 where none did, or
        the clean image was wrong already.
    adversarial : Tensor
        (sample, *shape): the image that broke it, else the clean one.
    members : tuple of MemberOutcome
        In the order in which they were run.
    """

    threat: Threat
    clean: Tensor
    worst: Tensor
    broken_by: Tensor
    adversarial: Tensor
    members: tuple[MemberOutcome, ...]

    __repr__ = brief_repr

    def __len__(self) -> int:
        return len(self.clean)

    @property
    def clean_accuracy(self) -> float:
        """Per cent of samples, before any attack."""
        return _percent(self.clean)

    @property
    def accuracy(self) -> float:
        """Per cent of samples that no member broke."""
        return _percent(self.worst)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of `accuracy`, per cent."""
        return wilson(int(self.worst.sum()), len(self))

    @property
    def cumulative(self) -> tuple[float, ...]:
        """Per cent of samples still correct after each member and all before it."""
        fallen = torch.bincount(self.broken_by[self.broken_by >= 0], minlength=len(self.members))
        left = int(self.clean.sum()) - fallen.cumsum(0)
        return tuple(100 * int(count) / max(1, len(self)) for count in left)


def _percent(right: Tensor) -> float:
    return 100 * int(right.sum()) / max(1, len(right))


def merge(parts: Sequence[WorstCase]) -> WorstCase:
    """One outcome of consecutive samples that were evaluated in parts.

    Raises
    ------
    InputError
        If there is no part, or the parts are not of one ensemble under one threat.
    """
    if not parts:
        raise InputError("no outcome to merge; evaluate at least one sample")
    first, *others = parts
    members = list(first.members)
    for part in others:
        names = [member.name for member in part.members]
        if part.threat != first.threat or names != [member.name for member in members]:
            raise InputError(
                f"outcomes under {first.threat} and {part.threat} by members "
                f"{[member.name for member in members]} and {names} are of two evaluations; "
                "evaluate all samples alike"
            )
        members = [one + other for one, other in zip(members, part.members, strict=True)]
    return WorstCase(
        first.threat,
        torch.cat([part.clean for part in parts]),
        torch.cat([part.worst for part in parts]),
        torch.cat([part.broken_by for part in parts]),
        torch.cat([part.adversarial for part in parts]),
        tuple(members),
    )
