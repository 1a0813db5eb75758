"""Evaluate the robustness of a network: worst case at every eps, then the gates on that evaluation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

from spikemorph.graph import InputError, SpikemorphError
from spikemorph.train.processes import Processes

from .attacks.base import Attack
from .attacks.losses import losses
from .cascade.block_files import evaluate_blocks, in_memory, merge_blocks
from .cascade.blocks import Evaluation
from .cascade.outcome import WorstCase
from .cascade.patience import Patience
from .cascade.worst_case import BLOCK
from .gates.context import Companions, GateContext, GateSettings, Samples
from .gates.gradients import path_records
from .gates.run import run_gates
from .result import Curves, EpsRow, Example, RobustnessResult, Subject
from .target import Target
from .threat import Norm, Threat

# A threat to the attacks that are run under it, strong ones first.
AttacksFor = Callable[[Threat], Sequence[Attack]]
# What to evaluate to what was found: in memory, or in blocks on disk.
Measure = Callable[[Evaluation], WorstCase]

_IMAGE_RANK = 3
_CHANNELS = (1, 3)
_WHITE = 255


@dataclass(frozen=True)
class EvaluationSettings:
    """How to evaluate.

    Parameters
    ----------
    eps : tuple of float
        In units of the input, growing.
    norm : str
        "linf" or "l2".
    seed : int
        Of all draws.
    gates : GateSettings, optional
        What gates may cost; None runs none.
    examples : int
        How many broken samples are kept as pictures.
    block : int
        Samples that are evaluated together, and kept together.
    patience : Patience, optional
        What is tried further, after all attacks, until it brings nothing.

    Raises
    ------
    InputError
        If there is no eps, or they do not grow.
    """

    eps: tuple[float, ...]
    norm: Norm = "linf"
    seed: int = 0
    gates: GateSettings | None = field(default_factory=GateSettings)
    examples: int = 8
    block: int = BLOCK
    patience: Patience | None = None

    def __post_init__(self) -> None:
        if not self.eps or list(self.eps) != sorted(set(self.eps)):
            some = ", ".join(f"{eps:g}" for eps in self.eps[:6]) + ", ..." * (len(self.eps) > 6)
            raise InputError(f"eps ({some}): give at least one, growing, none twice")

    @property
    def threats(self) -> tuple[Threat, ...]:
        """One for each eps."""
        return tuple(Threat(self.norm, eps) for eps in self.eps)


def in_folder(folder: Path, processes: Processes | None = None) -> Measure:
    """Blocks on disk, shared by processes, kept after a kill.

    What it makes raises an `InputError` while blocks of other processes are missing: run it again
    when they are there.
    """

    def measure(evaluation: Evaluation) -> WorstCase:
        evaluate_blocks(evaluation, folder, processes)
        return merge_blocks(evaluation, folder)

    return measure


def evaluate_robustness(
    target: Target,
    attacks_for: AttacksFor,
    samples: Samples,
    settings: EvaluationSettings,
    subject: Subject,
    *,
    companions: Companions | None = None,
    measure: Measure = in_memory,
    watch_gates: Callable[[float], None] = lambda _: None,
) -> RobustnessResult:
    """Clean accuracy, the worst case of every sample at every eps, paths, curves, and gates.

    A sample that broke at a smaller eps is broken at a larger one, as its image is allowed there
    too. Without any gradient path only attacks without gradients are run; a gate says so. The
    command, versions and corruptions are entered by the caller (`dataclasses.replace`).
    `watch_gates` is told how many gates are done.

    Raises
    ------
    InputError
        As `worst_case`, `measure` and `run_gates` do.
    """
    companions = companions or Companions()
    _require_alike(target, companions, samples.x[:1])
    given = (samples.x, samples.y, settings.seed, samples.indices, settings.block)
    outcomes = [
        measure(
            Evaluation(
                *(target, subject.network, possible(target, attacks_for(threat)), *given),
                patience=settings.patience,
            )
        )
        for threat in settings.threats
    ]
    rows = in_turn(outcomes)
    clean = rows[0].outcome.clean
    with torch.no_grad():
        classes = target.logits(samples.x[:1]).shape[1]
    base = Curves(accuracy_vs_eps=accuracy_by_attack(rows))
    facts = (subject, classes, settings.norm, settings.seed, clean, rows)
    shown = examples(target, samples, rows, settings.examples)
    if settings.gates is None:
        return RobustnessResult(*facts, curves=base, examples=shown)
    few = samples.rows(torch.arange(min(len(samples), settings.gates.samples)))
    context = GateContext(
        target,
        few,
        settings.threats[-1],
        settings.seed,
        settings.gates,
        companions,
        tuple(outcomes),
    )
    checked = run_gates(context, watch_gates)
    sweeps = context.usable and context.asks("gradients", "surrogates")
    return RobustnessResult(
        *facts,
        curves=with_gates(base, context),
        paths=path_records(context) if sweeps else (),
        gates=checked,
        examples=shown,
    )


@torch.no_grad()
def _require_alike(target: Target, companions: Companions, x: Tensor) -> None:
    """Refuse other networks that do not take these samples, or have other classes, before any work."""
    classes = target.logits(x).shape[1]
    others = [companions.undefended, companions.coarse, *companions.transfer]
    for other in (*others, *companions.other_steps):
        if other is None:
            continue
        try:
            found = other.logits(x).shape[1]
        except (SpikemorphError, RuntimeError) as error:
            raise InputError(
                f"network {other.name}, to compare with: it does not take samples of shape "
                f"{tuple(x.shape[1:])} ({str(error).splitlines()[0]}); give one for the same data"
            ) from error
        if found != classes:
            raise InputError(
                f"network {other.name}, to compare with: it has {found} classes, {target.name} has "
                f"{classes}; give one for the same data"
            )


def possible(target: Target, chosen: Sequence[Attack]) -> tuple[Attack, ...]:
    """The attacks that need no gradient, where there is none and such attacks were chosen."""
    blind = [attack for attack in chosen if not attack.gradients]
    return tuple(chosen if target.paths or not blind else blind)


def in_turn(outcomes: Sequence[WorstCase]) -> tuple[EpsRow, ...]:
    """Rows by growing eps, in which what was broken stays broken."""
    rows: list[EpsRow] = []
    for outcome in outcomes:
        before = rows[-1].standing if rows else outcome.clean
        rows.append(EpsRow(outcome, before & outcome.worst))
    return tuple(rows)


def accuracy_by_attack(rows: Sequence[EpsRow]) -> dict[str, list[tuple[float, float]]]:
    """Per cent left against eps: after each attack and those before it, and in the worst case."""
    start = (0.0, rows[0].outcome.clean_accuracy)
    curves: dict[str, list[tuple[float, float]]] = {"worst case": [start]}
    for row in rows:
        eps = row.outcome.threat.eps
        if eps == 0:
            continue
        curves["worst case"].append((eps, row.worst.accuracy))
        left = zip(row.outcome.members, row.outcome.cumulative, strict=True)
        for attack, group in groupby(left, key=lambda pair: pair[0].attack):
            curves.setdefault(attack, [start]).append((eps, list(group)[-1][1]))
    return curves


def with_gates(base: Curves, context: GateContext) -> Curves:
    """The evaluation's curves, and those that gates measured."""
    if not context.usable or not context.best:
        return base
    over_eps, over_steps, over_loss = dict(base.accuracy_vs_eps), {}, {}
    if context.asks("monotone", "half-range", "unbounded"):
        over_eps["pgd (gates)"] = [(eps, found.robust) for eps, found in context.by_eps]
    if context.asks("iterative", "convergence"):
        over_steps["pgd"] = [(float(k), found.robust) for k, found in context.by_steps]
        over_loss["pgd"] = [(float(k), _loss(context, f.images)) for k, f in context.by_steps]
    return Curves(over_eps, over_steps, over_loss)


def examples(
    target: Target, samples: Samples, rows: Sequence[EpsRow], count: int
) -> tuple[Example, ...]:
    """Broken samples with the smallest indices, each with the image of the smallest eps.

    Empty where samples are no pictures of one or three channels.
    """
    fallen = (rows[-1].outcome.clean & ~rows[-1].standing).nonzero()[:, 0]
    shape = _picture(tuple(samples.x.shape[1:]))
    if shape is None:
        return ()
    order = samples.indices[fallen.to(samples.indices.device)].argsort()
    found = []
    for at in fallen[order.to(fallen.device)][:count].tolist():
        outcome = next(row.outcome for row in rows if not row.standing[at])
        pair = torch.stack([samples.x[at], outcome.adversarial[at].to(samples.x)])
        with torch.no_grad():
            before, after = target.logits(pair).argmax(1).tolist()
        by = outcome.members[int(outcome.broken_by[at])].name
        identity = (int(samples.indices[at]), int(samples.y[at]), before, after)
        found.append(Example(*identity, outcome.threat.eps, by, shape, *map(_pixels, pair)))
    return tuple(found)


def _picture(shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Channels, height, width; rows of numbers count as a picture one pixel high."""
    if len(shape) > _IMAGE_RANK or not shape:
        return None
    full = (*[1] * (_IMAGE_RANK - len(shape)), *shape)
    return full if full[0] in _CHANNELS else None


def _pixels(image: Tensor) -> tuple[int, ...]:
    return tuple((image * _WHITE).round().long().flatten().tolist())


def _loss(context: GateContext, images: Tensor) -> float:
    """Mean cross-entropy of the network itself."""
    logits = context.forward(context.target.logits, images)
    return float(losses["ce"](logits, context.samples.y).mean())
