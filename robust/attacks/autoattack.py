"""The cascade of AutoAttack's standard version, at its reference settings."""

from spikemorph.graph import InputError

from ..threat import Threat
from .apgd import Apgd
from .apgd_targeted import TargetedApgd
from .base import Attack
from .square import Square
from .torchattacks_fab import FabT

_TARGETS = 9
_CLASSES = 4  # the targeted difference of logits ratio looks at the four largest logits


def standard(threat: Threat, classes: int) -> tuple[Attack, ...]:
    """APGD-CE, APGD-T, FAB-T (100 steps each, one restart), Square (5000 queries), in this order.

    Croce and Hein, ICML 2020. Both targeted attacks try 9 other classes, or all where there are
    fewer; Square's schedule is not rescaled.

    Raises
    ------
    InputError
        If there are too few classes for a member; if torchattacks, which FAB-T needs, is missing.
    """
    if classes < _CLASSES:
        raise InputError(
            f"{classes} classes are too few for apgd-t, which needs at least {_CLASSES}: the "
            "standard cascade cannot be run; use apgd-ce, pgd-cw and square"
        )
    targets = min(_TARGETS, classes - 1)
    return (
        Apgd(threat, steps=100, loss="ce"),
        TargetedApgd(threat, steps=100, targets=targets),
        FabT(threat, steps=100, targets=targets),
        Square(threat, queries=5000),
    )
