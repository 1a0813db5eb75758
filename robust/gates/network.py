"""Gates on the network and on the images: deterministic, stateless, logits, bounds, fine inputs."""

import torch
from torch import Tensor

from spikemorph.graph.grid import FINE

from ..attacks.pgd import Pgd
from ..cascade.outcome import WorstCase
from ..draws import Draws
from ..target import Logits
from ..threat import SLACK
from .context import GateContext, clear, logits_problem, share
from .effort import CONVERGED
from .gate import Finding, gate

REPEATS = 5
EQUAL = 1e-4  # how far logits of the same image may differ (reference AutoAttack: randomness flag)
COARSE = 255  # steps of an 8-bit grid
BELOW = 0.45  # of such a step: changes that rounding to 8 bits does not let through
_SLACK = 1e-9  # relative, of a grid's step
NO_WORST = "not run: no evaluation was given"


@gate(
    "randomness",
    "The network says the same every time",
    "A random network must be attacked by averages over its randomness; one gradient is not enough.",
    attacks=False,
)
def randomness(context: GateContext) -> Finding:
    """Logits of repeated passes agree."""
    spread = torch.zeros(len(context.samples), dtype=torch.float64)
    for _ in range(REPEATS - 1):
        spread = torch.maximum(spread, _apart(context, context.samples.x))
    return _same(context, spread, f"{REPEATS} passes over the same images")


@gate(
    "state",
    "No sample sees another",
    "State left from earlier images, or shared in a batch, decides: results depend on the order.",
    attacks=False,
)
def state(context: GateContext) -> Finding:
    """Logits are the same after other images, in another order, and for a sample alone."""
    x, model = context.samples.x, context.target.logits
    expected = context.logits
    context.forward(model, 1 - x)
    spread = _apart(context, x)
    turned = context.forward(model, x.flip(0)).flip(0)
    spread = torch.maximum(spread, _distance(turned, expected))
    few = min(REPEATS, len(x))
    alone = torch.cat([context.forward(model, x[at : at + 1]) for at in range(few)])
    spread[:few] = torch.maximum(spread[:few], _distance(alone, expected[:few]))
    return _same(context, spread, "after other images, in reverse order, and alone")


@gate(
    "logits",
    "The network returns logits",
    "A softmax, or numbers that are not finite, hide the gradient of every loss.",
    attacks=False,
)
def logits(context: GateContext) -> Finding:
    """Finite, and not rows of probabilities."""
    problem = logits_problem(context.logits)
    lowest, highest = float(context.logits.min()), float(context.logits.max())
    return Finding(problem is None, problem or f"finite, from {lowest:.3g} to {highest:.3g}")


@gate(
    "bounds",
    "Every adversarial image is allowed",
    "An image was counted that the threat forbids: the robust accuracy is too low, or wrong.",
    attacks=False,
)
def bounds(context: GateContext) -> Finding:
    """distance <= eps + 1e-6, values in [0, 1], all finite; over all eps of the evaluation."""
    if not context.worst:
        return Finding(None, NO_WORST)
    bad, furthest = torch.zeros(len(context.samples), dtype=torch.bool), []
    for outcome in context.worst:
        images = outcome.adversarial[: len(context.samples)].to(context.samples.x)
        distance = outcome.threat.distance(images, context.samples.x)
        inside = (images >= 0) & (images <= 1)  # not a number is neither
        bad |= ~(inside.flatten(1).all(1) & (distance <= outcome.threat.eps + SLACK)).cpu()
        furthest.append(f"{float(distance.max()):.6f} of {outcome.threat.eps:.6f}")
    return Finding(
        not bool(bad.any()), f"furthest image: {', '.join(furthest)}", context.samples.named(bad)
    )


@gate(
    "per-sample",
    "The worst case is taken for every sample",
    "The smallest of several accuracies is not the accuracy under the worst of several attacks.",
    attacks=False,
)
def per_sample(context: GateContext) -> Finding:
    """The network is wrong on every image that is said to break it, and right on the others.

    And no member leaves fewer samples than all together do.
    """
    if not context.worst:
        return Finding(None, NO_WORST)
    wrong = torch.zeros(len(context.samples), dtype=torch.bool)
    above = False
    for outcome in context.worst:
        wrong |= _contradicted(context, outcome)
        above |= any(outcome.accuracy > left for left in outcome.cumulative)
    return Finding(
        not above and not bool(wrong.any()),
        f"{int(wrong.sum())} samples contradict the images kept for them; the worst case is "
        f"{'above some member' if above else 'at or below every member'}",
        context.samples.named(wrong),
    )


@gate(
    "input-grid",
    "Rounding of inputs is no defence",
    "Inputs are rounded more coarsely than an attacker has to: the grid, not the network, resists.",
    paths=True,
)
def input_grid(context: GateContext) -> Finding:
    """Fine images break it; rounded to 8 bits they, or an attack on that grid, break as much.

    A network rounds by itself if its own grid is known to have fewer than 12 bits, or else if it does
    not react at all to changes below half an 8-bit step.
    """
    attack = Pgd(context.threat, steps=context.settings.steps)
    fine = context.attack(attack, context.best)
    images = rounded(fine.images)
    after = context.clean & (
        context.forward(context.target.logits, images).argmax(1) == context.samples.y
    )
    coarse = context.companions.coarse
    judge = coarse.logits if coarse else _rounding(context.target.logits)
    paths = [p.logits for p in coarse.paths] if coarse else [_rounding(m) for m in context.best]
    grid = context.attack(attack, paths[: len(context.best)], judge=judge, fork="grid")
    step = context.target.input_step
    deaf = _rounds_by_itself(context) if step is None else step * FINE > 1 + _SLACK
    detail = (
        f"fine grid {share(fine.standing)}; its images rounded to 8 bits {share(after)}; attacked "
        f"on the 8-bit grid {share(grid.standing)}"
    )
    if deaf:
        said = "no sample reacts to changes below half an 8-bit step"
        if step is not None:
            said = f"its own grid has only {1 / step:.0f} steps, fewer than 12 bits"
        detail += f"; {said}"
    one = 1  # the two attacks draw apart: a single sample more or less is chance
    gained = clear(grid.count - fine.count - one, len(context.samples), CONVERGED)
    return Finding(
        not gained and not deaf, detail, context.samples.named(grid.standing & ~fine.standing)
    )


def rounded(x: Tensor) -> Tensor:
    """The nearest image of 8 bits."""
    return (x * COARSE).round() / COARSE


def _rounding(model: Logits) -> Logits:
    """The network behind an 8-bit grid, its gradient passed straight through."""

    def rounds(x: Tensor) -> Tensor:
        return model(x + (rounded(x) - x).detach())

    return rounds


def _rounds_by_itself(context: GateContext) -> bool:
    """Whether changes too small for 8 bits change nothing, for any sample."""
    centres = rounded(context.samples.x)
    draws = Draws.of(context.seed, context.samples.indices).fork("grid")
    signs = draws.signs(*centres.shape[1:]).to(centres)
    moved = (centres + BELOW / COARSE * signs).clamp(0, 1)
    before, after = (context.forward(context.target.logits, x) for x in (centres, moved))
    return bool((before == after).all())


def _contradicted(context: GateContext, outcome: WorstCase) -> Tensor:
    """(sample,) whose kept image does not do what the outcome says."""
    few = len(context.samples)
    images = outcome.adversarial[:few].to(context.samples.x)
    right = context.forward(context.target.logits, images).argmax(1) == context.samples.y
    return right.cpu() != outcome.worst[:few].cpu()


def _apart(context: GateContext, x: Tensor) -> Tensor:
    """(sample,) how far logits of the clean samples are from what they were."""
    return _distance(context.forward(context.target.logits, x), context.logits)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    return (a.double() - b.double()).abs().amax(1).nan_to_num(torch.inf).cpu()


def _same(context: GateContext, spread: Tensor, what: str) -> Finding:
    return Finding(
        bool((spread <= EQUAL).all()),
        f"{what}: logits differ by at most {float(spread.max()):.2g}; {EQUAL:g} is allowed",
        context.samples.named(spread > EQUAL),
    )
