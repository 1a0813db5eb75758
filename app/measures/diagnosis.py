"""Say where a conversion lost accuracy and which option brings it back, and what looks wrong besides."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from spikemorph.graph import Graph, run
from spikemorph.graph.errors import Message, Repair, Setting
from spikemorph.graph.grid import Grid
from spikemorph.graph.tasks import Task
from spikemorph.layers.integer_pass import IntegerPass
from spikemorph.quant import Max, Percentile, Quantisation
from spikemorph.quant.diagnosis import LayerLoss, layer_losses
from spikemorph.quant.integers import Quantised, quantised

from .results import EvaluationResult

LOUD = 2.0  # points of accuracy, or of agreement where there are no labels, that are said aloud
NOISY = 0.05  # share of noise in the outputs that is said aloud where there are no classes
FEW = 32  # calibration samples
JUDGES = 256  # calibration samples that a loss is measured on
LISTENERS = 64  # samples that layers are listened to with
SIGMAS = 3  # from guessing, in standard deviations of it


@dataclass(frozen=True)
class Kept:
    """What an integer network keeps of the float one, on calibration samples.

    `accuracy` and `float_accuracy` are None without labels, `agreement` without classes; all three in
    %. `noise` is the squared error of the outputs as a share of their variance.
    """

    agreement: float | None
    accuracy: float | None
    float_accuracy: float | None
    noise: float

    @property
    def lost(self) -> float:
        """Points of accuracy, else of agreement; without classes, the noise on the scale of `LOUD`."""
        if self.accuracy is not None and self.float_accuracy is not None:
            return self.float_accuracy - self.accuracy
        return LOUD * self.noise / NOISY if self.agreement is None else 100 - self.agreement


@dataclass(frozen=True)
class Tried:
    """Settings of a conversion that were tried on calibration samples, and what is kept with them."""

    settings: tuple[Setting, ...]
    kept: Kept


@dataclass(frozen=True)
class Diagnosis:
    """Where a conversion stands.

    Parameters
    ----------
    samples : int
        Calibration samples that `kept` was measured on; test samples decide nothing here.
    kept : Kept
        What is kept at the settings that were asked for.
    layers : tuple of LayerLoss
        In running order.
    weakest : str
        The layer that adds most noise itself.
    repair : Tried or None
        The first settings that bring the loss below `LOUD`, else the best that help; None where none
        was needed or none helped.
    """

    samples: int
    kept: Kept
    layers: tuple[LayerLoss, ...]
    weakest: str
    repair: Tried | None

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def diagnose(
    graph: Graph, found: Quantised, settings: Quantisation, task: Task, labels: Tensor | None
) -> Diagnosis:
    """Measure what was kept on calibration samples, listen to the layers, and try repairs if needed.

    Parameters
    ----------
    graph : Graph
        The canonical float graph.
    found : Quantised
        What it was turned into.
    settings : Quantisation
        How.
    task : Task
        What the outputs answer.
    labels : Tensor, optional
        The right answers for the calibration samples.
    """
    ends = None if found.lengths is None else found.lengths[-JUDGES:]
    judges = _Judges(graph, task, found.samples[-JUDGES:], ends, labels)
    kept = judges.kept(found)
    listened = None if ends is None else ends[-LISTENERS:]
    layers = layer_losses(found, judges.x[-LISTENERS:], listened)
    weakest = min(layers, key=lambda layer: layer.own_db).node
    repair = None if kept.lost <= LOUD else _repair(judges, found, settings)
    if repair is not None and repair.kept.lost >= kept.lost - LOUD / 2:
        repair = None
    return Diagnosis(len(judges.x), kept, layers, weakest, repair)


def _repair(judges: "_Judges", found: Quantised, settings: Quantisation) -> Tried:
    tried = []
    for chosen, changed in _options(settings):
        other = quantised(judges.graph, found.samples, found.grid, changed, found.lengths)
        tried.append(Tried(chosen, judges.kept(other)))
        if tried[-1].kept.lost <= LOUD:
            return tried[-1]
    return min(tried, key=lambda repair: repair.kept.lost)


def _options(settings: Quantisation) -> Iterator[tuple[tuple[Setting, ...], Quantisation]]:
    """What to try, from cheap to dear."""
    if not isinstance(settings.calibrator, Percentile):
        chosen = (Setting("calibrator", "percentile=99.9"),)
        yield chosen, replace(settings, calibrator=Percentile(0.999))
    if not isinstance(settings.calibrator, Max):
        yield (Setting("calibrator", "max"),), replace(settings, calibrator=Max())
    bits, levels = [b for b in (8, 16) if b > settings.weight_bits], settings.levels
    finer = [n for n in (2 * levels, 4 * levels, 16 * levels) if n <= 1024]
    for number in finer:
        yield (Setting("levels", number),), replace(settings, levels=number)
    for number in bits:
        yield (Setting("weight_bits", number),), replace(settings, weight_bits=number)
    if finer and bits:
        both = replace(settings, levels=finer[-1], weight_bits=bits[-1])
        yield (Setting("levels", finer[-1]), Setting("weight_bits", bits[-1])), both


@dataclass(frozen=True, eq=False)
class _Judges:
    """The calibration samples that a loss is measured on, and the float network that is asked."""

    graph: Graph
    task: Task
    x: Tensor
    lengths: Tensor | None
    labels: Tensor | None

    @torch.no_grad()
    def kept(self, found: Quantised) -> Kept:
        task, made = self.task, IntegerPass(found.graph).outputs(self.x, self.lengths)
        real = run(self.graph, self.x, self.lengths).double()
        spread = float((real - real.mean(0)).square().sum())
        noise = float((made - real).square().sum()) / spread if spread else 0.0
        answers, wanted = task.answers(made), task.answers(real)
        y = None if self.labels is None else self.labels[-len(self.x) :]
        return Kept(
            task.share(answers, wanted), task.share(answers, y), task.share(wanted, y), noise
        )


def of_robustness(grid: Grid) -> Iterator[Message]:
    """What to know of the grid of inputs before the network is attacked, if anything."""
    if grid.coarse:
        said = f"inputs are rounded to {grid.high - grid.low} steps, too coarse for claims of robustness"
        yield Message(said, (Repair("input_bits", 12, "for those convert with {}"),))


def warnings(
    measured: EvaluationResult, found: Diagnosis | None, calibrated: int, classes: int
) -> list[Message]:
    """What a user must not overlook, a sentence each.

    `measured` is of the test samples, `found` of calibration samples, None for rate-coded networks;
    `calibrated` is how many of these there were, `classes` how many answers a network chooses from.
    """
    lines = [*_guessing(measured, classes)]
    if calibrated < FEW:
        few = (
            f"{calibrated} calibration samples are few: channels may look silent or small by chance"
        )
        lines.append(Message(f"{few}; give {FEW} or more"))
    if found is not None:
        lines.extend(_coarse(found))
        lines.extend(_losing(measured, found))
    return lines


def _guessing(measured: EvaluationResult, classes: int) -> Iterator[Message]:
    share = measured.float_accuracy
    if share is None or classes < 2:
        return
    chance = 1 / classes
    reach = chance + SIGMAS * math.sqrt(chance * (1 - chance) / measured.n)
    if share / 100 <= reach:
        said = (
            f"the float network itself is right on {share:.2f} % of the samples, and guessing among "
            f"{classes} classes on {100 * chance:.2f} %: is this another data set"
        )
        yield Message(
            said,
            (
                Repair("mean", words="or was a normalisation forgotten: {}"),
                Repair("std", words="{}"),
                Repair("input_range", words="{}?"),
            ),
        )


def _coarse(found: Diagnosis) -> Iterator[Message]:
    for layer in found.layers:
        heard = layer.channels - layer.silent
        if layer.coarse > heard / 2:
            yield Message(
                f"node {layer.node!r}: its step is wider than what {layer.coarse} of {heard} channels "
                "ever reach: they send nothing; give more levels"
            )


def _losing(measured: EvaluationResult, found: Diagnosis) -> Iterator[Message]:
    tested = 0.0
    if measured.float_accuracy is not None and measured.integer_accuracy is not None:
        tested = measured.float_accuracy - measured.integer_accuracy
    if max(tested, found.kept.lost) <= LOUD:
        return
    (weak,) = [layer for layer in found.layers if layer.node == found.weakest]
    what = f"{tested:.2f} points on test samples" if tested > LOUD else _said(found.kept)
    where = f"most is lost at node {weak.node!r} ({weak.kind}, {weak.own_db:.1f} dB on its own)"
    repairs: tuple[Repair, ...] = ()
    said = f"the integer network loses {what}, which no certificate is about; {where}"
    if found.repair is not None:
        before, after = _said(found.kept), _said(found.repair.kept)
        advice = f"on {found.samples} calibration samples a change helps: {before}, then {after}"
        first, *others = found.repair.settings
        repairs = (
            Repair(first.name, first.value),
            *(Repair(one.name, one.value, "and {}") for one in others),
        )
    elif found.kept.lost <= LOUD:
        advice = "calibration samples do not show it: are they like the test samples?"
    else:
        advice = (
            "no setting helped alone on calibration samples: train under quantisation (finetune)"
        )
    yield Message(f"{said}; {advice}", repairs)


def _said(kept: Kept) -> str:
    if kept.accuracy is not None:
        return f"{kept.lost:.2f} points of accuracy"
    if kept.agreement is not None:
        return f"{kept.lost:.2f} points of agreement"
    return f"{100 * kept.noise:.1f} % of noise in the outputs"
