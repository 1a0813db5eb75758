"""Gates on rivals: attacks that know less must not do better, and an undefended twin must fall."""

from dataclasses import replace

import torch
from torch import Tensor

from ..attacks.base import Attack
from ..attacks.pgd import Pgd
from ..attacks.random_noise import Noise
from ..attacks.refine import Refine
from ..attacks.square import Square
from .context import Attacked, GateContext, clear, percent, share
from .gate import Finding, gate

BEHIND = 0.2  # points that Square may still take (the flag of the reference AutoAttack)
FALLEN = 5.0  # points that an undefended twin may keep, where "about 0" is expected


@gate(
    "square",
    "Gradients break at least as much as queries alone",
    "An attack that sees no gradient finds more than one that does: gradients are masked.",
    paths=True,
)
def square(context: GateContext) -> Finding:
    """accuracy(white box) <= accuracy(Square), and Square takes no more from it.

    Nor does the evaluation's own Square, on all its samples.
    """
    queries = context.settings.queries
    attack = Square(context.threat, queries, rescale=True)
    found = context.attack(attack, [context.target.logits])
    return _with_own(
        context, attack, _against(context, found.standing, f"Square with {queries} queries")
    )


@gate(
    "noise",
    "Gradients break at least as much as random images",
    "Random images find more than gradients do: gradients are masked.",
    paths=True,
)
def noise(context: GateContext) -> Finding:
    """accuracy(white box) <= accuracy(noise), and noise takes no more from it.

    Nor does the evaluation's own noise, on all its samples.
    """
    draws = context.settings.noise
    attack = Noise(context.threat, draws)
    found = context.attack(attack, [context.target.logits])
    return _with_own(
        context, attack, _against(context, found.standing, f"random noise with {draws} draws")
    )


@gate(
    "refine",
    "A search that begins where gradients end finds no more",
    "Small random changes break what gradients stop short of: they end on plateaus, and what they leave "
    "is not robust.",
    paths=True,
)
def refine(context: GateContext) -> Finding:
    """accuracy(white box) <= accuracy(white box, then the search from its images).

    Nor does the evaluation's own search take any, on all its samples.
    """
    queries = context.settings.queries
    attack = Refine(context.threat, queries, patience=queries)
    ended = Attacked(context.white_box, context.by_steps[-1][1].images)
    found = context.attack(attack, [context.target.logits], fork="refine", after=ended)
    name = f"the search with {queries} queries from their images"
    return _with_own(context, attack, _against(context, found.standing, name))


@gate(
    "transfer",
    "Gradients break at least as much as images made for other networks",
    "Images made for another network break more than this network's own gradients: these are "
    "masked.",
    paths=True,
)
def transfer(context: GateContext) -> Finding:
    """accuracy(white box) <= accuracy(transfer), over all sources together."""
    sources = [source for source in context.companions.transfer if source.paths]
    if not sources:
        return Finding(None, "not run: no other network with gradients was given")
    attack = Pgd(context.threat, steps=context.settings.steps, last_iterate=True)
    models = [source.paths[0].logits for source in sources]
    found = context.attack(attack, models, fork="transfer")
    names = ", ".join(source.name for source in sources)
    return _against(context, found.standing, f"transfer from {names}")


@gate(
    "time-steps",
    "Gradients at the network's own T break at least as much as at any other T",
    "Images made for a run of another length break more than the network's own gradients: these "
    "are masked in time.",
    paths=True,
)
def time_steps(context: GateContext) -> Finding:
    """accuracy(white box at T) <= accuracy(same path at other T), all judged at T."""
    others = context.companions.other_steps
    if not others:
        return Finding(
            None,
            "not run: the network does not run through time, or its other lengths were not given",
        )
    strongest = next((path.name for path, _ in context.sweep if not path.stand_in), None)
    if strongest is None:
        return Finding(None, "not run: no path runs through time, all stand in for the network")
    attack = Pgd(context.threat, steps=context.settings.steps)
    both = torch.ones_like(context.clean)
    left = []
    for other in others:
        models = [path.logits for path in other.paths if path.name == strongest]
        found = context.attack(attack, models, fork="time-steps")
        left.append(f"{other.name} leaves {percent(found.standing):.1f} %")
        both &= found.standing
    compared = _against(context, both, f"path {strongest} at other T")
    return replace(compared, detail=f"{compared.detail} ({', '.join(left)})")


@gate(
    "undefended",
    "The same attack breaks an undefended network",
    "The attack breaks nothing: it proves nothing about this network either.",
    attacks=False,
)
def undefended(context: GateContext) -> Finding:
    """accuracy(undefended twin) is about 0 under the same code, steps and threat."""
    twin = context.companions.undefended
    if twin is None or not twin.paths:
        return Finding(None, "not run: no undefended network with gradients was given")
    attack = Pgd(context.threat, steps=context.settings.steps)
    models = [path.logits for path in twin.paths[: context.settings.paths]]
    found = context.attack(attack, models, judge=twin.logits, fork="undefended")
    return Finding(
        not clear(found.count, len(context.samples), FALLEN),
        f"{twin.name} keeps {share(found.standing)}; at most {FALLEN:g} % is expected",
        context.samples.named(found.standing),
    )


def _with_own(context: GateContext, attack: Attack, finding: Finding) -> Finding:
    """The finding, and what the evaluation's attack of the same name broke after all gradients."""
    worst = context.broken_without_gradients(attack.name)
    if worst is None:
        return finding
    eps, broken = worst
    count, points = int(torch.count_nonzero(broken)), percent(broken)
    return Finding(
        bool(finding.passed) and points <= BEHIND,
        f"{finding.detail}; in the evaluation at {eps:.3g} {attack.name} broke {count} of "
        f"{len(broken)} samples that all gradients had left",
        tuple(
            sorted({*finding.exceptions, *context.samples.named(broken[: len(context.samples)])})
        ),
        max(finding.points or 0.0, points),
    )


def _against(context: GateContext, rival: Tensor, name: str) -> Finding:
    """Compare all that gradients broke with what a rival broke."""
    own = context.white_box
    missed = own & ~rival
    passed = percent(own) <= percent(rival) and percent(missed) <= BEHIND
    return Finding(
        passed,
        f"gradients leave {share(own)}, {name} {share(rival)}; "
        f"{int(torch.count_nonzero(missed))} samples are broken by the latter only",
        context.samples.named(missed),
        max(percent(missed), percent(own) - percent(rival)),
    )
