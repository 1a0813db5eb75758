"""What an ensemble is made of: attacks times gradient paths."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from spikemorph.graph import InputError

from ..attacks.base import Attack, goes_on
from ..target import GradientPath, Target
from .outcome import MemberOutcome
from .patience import Patience


@dataclass(frozen=True, eq=False)
class Member:
    """An attack, on one path where it takes gradients; `place` is the path's in the target.

    `turn` is 0 in the ensemble, and in the rounds that `Patience` adds the number of the round.
    """

    attack: Attack
    path: GradientPath | None = None
    place: int = 0
    turn: int = 0

    @property
    def name(self) -> str:
        """What its streams are forked by."""
        name = self.attack.name if self.path is None else f"{self.attack.name}/{self.path.name}"
        return f"{name} round {self.turn}" if self.turn else name

    @property
    def exact(self) -> bool:
        """Whether its queries show what the network itself says."""
        return self.path is None or self.path.exact

    @property
    def remembers(self) -> bool:
        """Whether its path goes by what a run saw, so that its rows stay together until the end."""
        return self.path is not None and self.path.begin is not None

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
            onward=goes_on(self.attack),
            turn=self.turn,
            attacked=attacked,
            broken=broken,
            zero_gradient_fraction=None,
            nan_gradient_fraction=None,
            queries=0,
            seconds=seconds,
        )


def members_of(
    target: Target, attacks: Sequence[Attack], patience: Patience | None = None
) -> tuple[Member, ...]:
    """Attacks times paths where gradients are taken, attacks alone otherwise; then the rounds.

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
        found += _on_paths(target, attack, 0)
    for turn in range(1, 1 + (patience.rounds if patience else 0)):
        assert patience is not None
        for attack in patience.attacks(attacks[0].threat, gradients=bool(target.paths)):
            found += _on_paths(target, attack, turn)
    return tuple(found)


def _on_paths(target: Target, attack: Attack, turn: int) -> list[Member]:
    if not attack.gradients:
        return [Member(attack, turn=turn)]
    return [Member(attack, path, place, turn) for place, path in enumerate(target.paths)]
