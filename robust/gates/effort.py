"""Gates on effort: more steps, restarts, or distance must help an attack, until it has converged."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..attacks.fgsm import Fgsm
from ..attacks.pgd import Pgd
from .context import HALF, WHOLE, Attacked, GateContext, clear, share
from .gate import Finding, gate

TOLERANCE = 0.5  # points that the stronger attack may be behind; repeats differ by their starts
CONVERGED = 0.5  # points that more effort may still take (Carlini et al. 2019: until it converges)


@gate(
    "iterative",
    "Many steps break at least as much as one",
    "One step beats many only where gradients mislead: they are masked.",
    paths=True,
)
def iterative(context: GateContext) -> Finding:
    """accuracy(PGD) <= accuracy(FGSM), through the same paths."""
    once = context.attack(Fgsm(context.threat), context.best)
    steps, many = context.by_steps[-1]
    return Finding(
        not clear(many.count - once.count, len(context.samples), TOLERANCE),
        f"one step leaves {share(once.standing)}, {steps} steps {share(many.standing)}",
        context.samples.named(many.standing & ~once.standing),
    )


@gate(
    "monotone",
    "Accuracy never grows with eps",
    "An attack that does worse with more room is stuck: gradients are masked, or steps too few.",
    paths=True,
)
def monotone(context: GateContext) -> Finding:
    """Between neighbours of the ladder of independent attacks."""
    points = context.by_eps
    passed, again = True, torch.zeros_like(context.clean)
    for (_, small), (_, large) in zip(points, points[1:], strict=False):
        passed &= not clear(large.count - small.count, len(context.samples), TOLERANCE)
        again |= large.standing & ~small.standing
    curve = ", ".join(f"{_level(eps)}: {found.robust:.1f} %" for eps, found in points)
    return Finding(passed, f"accuracy at eps {curve}", context.samples.named(again))


@gate(
    "half-range",
    "With half of the range allowed, nothing above chance is left",
    "Solid grey is allowed there: better than chance means that the attack fails.",
    paths=True,
)
def half_range(context: GateContext) -> Finding:
    """accuracy(eps 1/2) <= chance; grey leaves at most the samples of one class, so that counts."""
    found = dict(context.by_eps)[HALF]
    classes = context.logits.shape[1]
    commonest = int(context.samples.y.bincount().max())
    chance = max(100 / classes, 100 * commonest / len(context.samples))
    return Finding(
        found.robust <= chance,
        f"{share(found.standing)} at eps 0.5; chance is {chance:.1f} %",
        context.samples.named(found.standing),
    )


@gate(
    "unbounded",
    "Without any bound every sample breaks",
    "Any image is allowed there, also one of another class: what stands shows that gradients are "
    "masked.",
    paths=True,
)
def unbounded(context: GateContext) -> Finding:
    """accuracy(eps 1) == 0."""
    found = dict(context.by_eps)[WHOLE]
    detail = f"{found.count} of {int(context.clean.sum())} samples stand at eps 1"
    return Finding(found.count == 0, detail, context.samples.named(found.standing))


@gate(
    "convergence",
    "More steps no longer change the result",
    "The attack had not finished: the robust accuracy is too high. Give it more steps.",
    paths=True,
)
def convergence(context: GateContext) -> Finding:
    """From as many steps as the evaluation used (at least the last doubling) to the most."""
    used = max((m.steps or 0 for m in context.evaluated if m.path is not None), default=0)
    return _settled(context, context.by_steps, used, "steps")


@gate(
    "restarts",
    "More random starts no longer change the result",
    "Luck of the start still decides: the robust accuracy is too high. Restart more often.",
    paths=True,
)
def restarts(context: GateContext) -> Finding:
    """From as many starts as the evaluation used (at least the last increase) to the most."""
    points = tuple(
        (
            number,
            context.attack(
                Pgd(context.threat, steps=context.settings.steps, restarts=number),
                context.best,
            ),
        )
        for number in context.settings.restarts
    )
    used = max((m.restarts or 0 for m in context.evaluated if m.path is not None), default=0)
    return _settled(context, points, used, "restarts")


@gate(
    "losses",
    "Two or more losses were used",
    "Cross-entropy alone saturates on confident networks: their gradients vanish, not their "
    "weakness.",
)
def losses(context: GateContext) -> Finding:
    """Counted over the evaluation's gradient attacks."""
    used = sorted({m.loss for m in context.evaluated if m.path is not None and m.loss})
    if not context.evaluated:
        return Finding(None, "not run: no evaluation under this threat was given")
    if not used:
        return Finding(None, "not run: the evaluation used no loss that needs gradients")
    return Finding(len(used) > 1, f"losses: {', '.join(used)}")


def _settled(
    context: GateContext, points: Sequence[tuple[int, Attacked]], used: int, unit: str
) -> Finding:
    n = len(context.samples)
    if len(points) < 2:
        return Finding(None, f"not run: settings name only one number of {unit}")
    fair = [at for at, (number, _) in enumerate(points[:-1]) if number <= used or not used]
    start, (most, last) = points[fair[-1] if fair else 0], points[-1]
    lost = start[1].standing & ~last.standing
    curve = ", ".join(f"{number}: {found.robust:.1f} %" for number, found in points)
    detail = f"accuracy by {unit} {curve}; from {start[0]} to {most} {_lost(lost)}"
    change = start[1].count - last.count
    return Finding(not clear(change, n, CONVERGED), detail, context.samples.named(lost))


def _lost(lost: Tensor) -> str:
    """How many samples, and what so few samples can tell."""
    small = " (one sample is more than half a point)" if 100 / len(lost) > CONVERGED else ""
    return f"{int(lost.sum())} of {len(lost)} samples are lost{small}"


def _level(eps: float) -> str:
    return f"{eps:g}" if eps in (HALF, WHOLE) else f"{255 * eps:.0f}/255"
