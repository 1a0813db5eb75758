"""Attacks by name, with their numbers."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from spikemorph.graph import InputError
from spikemorph.robust import Attack, Threat, attacks
from spikemorph.robust.attacks.autoattack import standard
from spikemorph.robust.attacks.base import ONWARD
from spikemorph.robust.cascade.patience import Patience

# The effort of every evaluation, on both roads, unless another is asked for: gradients first, so that
# what queries alone still find is seen; then what goes on from the best image until it brings nothing.
ATTACKS = "pgd-margin,apgd-ce=20,best:apgd-dlr=20,square=200,refine"
PATHS = "strong"
PATIENCE = "20,500"
REFINE = "refine"  # ends every evaluation, on all that stand
STANDARD = "standard"  # the cascade of AutoAttack at its reference settings
_COUNTS = (
    "steps",
    "queries",
    "draws",
)  # the field that `name=NUMBER` sets, the first an attack has
_LEAST = {"apgd-t": 4, "apgd-dlr": 3, "pgd-dlr": 3}  # classes that their losses need
Plan = Callable[[Threat], tuple[Attack, ...]]


def attack_plan(text: str, classes: int) -> Plan:
    """Attacks by name, run in this order: ``apgd-ce,pgd=20,best:square=1000`` or ``standard``.

    A number sets the steps, queries or draws; without one, an attack has its reference settings. With
    ``best:`` before its name it starts at the best image of all attacks before it. ``refine`` is run at
    the end of every plan that does not name it; ``refine=0`` leaves it out.

    Raises
    ------
    InputError
        If a name is unknown, a number is none or has nothing to set, or an attack needs more classes.
    """
    if not text.strip():
        raise InputError("no attack is named; give some: apgd-ce,apgd-dlr,square")
    wanted = [part.strip() for part in text.split(",")]
    if not any(part.partition("=")[0] == REFINE for part in wanted):
        wanted.append(REFINE)
    wanted = [part for part in wanted if part != f"{REFINE}=0"]
    if not wanted:
        raise InputError("refine=0 leaves no attack; name others: apgd-ce,apgd-dlr,square")
    probe = Threat("linf", 0.1)
    for part in wanted:
        _named(part, probe, classes)  # refuse now, before anything is attacked
    return lambda threat: tuple(a for part in wanted for a in _named(part, threat, classes))


def patience_of(text: str) -> Patience | None:
    """How long to go on: ``20,500`` steps and queries a round; ``0`` makes no round.

    Raises
    ------
    InputError
        If it is not two whole numbers of 1 or more, or 0.
    """
    if text.strip() == "0":
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(part.isdecimal() and int(part) for part in parts):
        raise InputError(
            f"patience {text!r}: give the steps and queries of a round, such as {PATIENCE}; or 0"
        )
    return Patience(*map(int, parts))


def _named(part: str, threat: Threat, classes: int) -> tuple[Attack, ...]:
    name, equals, number = part.removeprefix(ONWARD).partition("=")
    onward = part.startswith(ONWARD)
    if name == STANDARD:
        if equals or onward:
            raise InputError(
                f"attack {part}: {STANDARD} has its reference settings; give its name alone"
            )
        return standard(threat, classes)
    if name not in attacks:
        known = ", ".join((*sorted(attacks), STANDARD))
        raise InputError(f"no attack {name!r}; known: {known}")
    if classes < (least := _LEAST.get(name, 2)):
        raise InputError(f"attack {name}: its loss needs {least} classes, there are {classes}")
    attack: Any = attacks[name](threat)
    if onward:
        attack = _going_on(attack, part)
    return (_with_count(attack, part, number),) if equals else (attack,)


def _going_on(attack: Any, part: str) -> Any:
    if not any(field.name == "onward" for field in fields(attack)):
        raise InputError(
            f"attack {part}: it cannot start at another attack's image; leave {ONWARD!r} out, or give "
            "it to square, pgd-margin, apgd-ce or apgd-dlr"
        )
    return replace(attack, onward=True)


def _with_count(attack: Any, part: str, number: str) -> Attack:
    has = {field.name for field in fields(attack)}
    setting = next((name for name in _COUNTS if name in has), None)
    if setting is None:
        raise InputError(f"attack {part}: it has no number of steps; leave {number} out")
    if not number.isdecimal() or int(number) < 1:
        raise InputError(f"attack {part}: give a whole number of {setting}, 1 or more")
    fewer = {"rescale": True} if "rescale" in has else {}  # Square's squares shrink within them
    return replace(attack, **{setting: int(number)}, **fewer)
