"""What a training is told: lesson, objective, variation, device, and which weights it ends with."""

import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from spikemorph.graph import InputError
from spikemorph.graph.errors import Repair, Setting
from spikemorph.graph.grid import UNIT
from spikemorph.graph.nested import recurs
from spikemorph.graph.tasks import Kind, Task
from spikemorph.prune import Lesson
from spikemorph.prune.task import PhaseSettings
from spikemorph.robust.training.bounds import IntervalBounds, SmallBoxes
from spikemorph.robust.training.epoch_selection import FinalWeights, RobustSelection
from spikemorph.robust.training.inner_attack import Ascent
from spikemorph.robust.training.objectives import (
    FastAdversarial,
    Mart,
    PgdTraining,
    RfgsmKl,
    Trades,
)
from spikemorph.train import (
    CrossEntropy,
    DataTensors,
    FlipAndShift,
    GraphModule,
    Objective,
    TrainSettings,
    hold_out,
)
from spikemorph.train.companion import Ending
from spikemorph.train.fabric import Fabric, make_fabric
from spikemorph.train.loop import EpochRecord
from spikemorph.train.objectives import Distillation, TaskLoss, TwoSided, TwoSidedModule
from spikemorph.train.processes import Processes
from spikemorph.train.temporal import TemporalSparsity
from spikemorph.zoo import Samples

from ..choices import by_name
from ..choices.settings import TrainingChoice
from ..sources.models import Model, load_graph
from ..sources.sampling import fitting
from ..sources.tasks import task_for, task_with
from .extra import Extra

Adversarial = PgdTraining | FastAdversarial | Trades | Mart | RfgsmKl
Bounds = IntervalBounds | SmallBoxes
_STEPS = 10  # of an inner attack, as published for all that take several
_CPU = torch.device("cpu")


def lesson_of(
    choice: TrainingChoice,
    samples: Samples,
    model: Model,
    seed: int,
    *,
    extra: Extra | None = None,
    checkpoint: Path | None = None,
    device: torch.device = _CPU,
    tell: Callable[[EpochRecord], None] | None = None,
) -> tuple[Lesson, DataTensors | None]:
    """What a training of the user's choice learns from, and the samples held out of it.

    Raises
    ------
    InputError
        If the samples have no labels or odd ones, another shape than the model's input, or are too
        few; if a number is outside its range.
    """
    if samples.y is None:
        raise InputError(f"{samples.name}: no labels to learn from; give samples with labels")
    task = task_for(model.graph, samples)
    train = DataTensors(fitting(samples, model.graph), task.targets(samples.y))
    validation = None
    if choice.held_out:
        generator = torch.Generator().manual_seed(seed)
        train, validation = hold_out(train, choice.held_out, generator)
    if extra is not None:
        train = extra.beside(train, model, task)
    settings = TrainSettings(
        epochs=choice.epochs, batch=choice.batch, rate=choice.rate, decay=choice.decay, seed=seed,
        clip=choice.clip,
    )  # fmt: skip
    vary = _variation(choice, model)
    arithmetic = by_name.precision(choice.precision)
    fabric = _fabric(device, arithmetic)
    objective = _of_task(_objective(choice, model, task), choice, task)
    objective = _calm(objective, choice, model)
    ending = _ending(choice, objective, validation, seed)
    return Lesson(
        train, settings, objective, vary, checkpoint, tell, fabric, ending, task
    ), validation


def _of_task(objective: Objective, choice: TrainingChoice, task: Task) -> Objective:
    """The objective as it is for a task: made for classes, it sees one logit as two."""
    if choice.objective != "clean" or choice.select:
        task.one_class(f"objective {choice.objective}")
    if task.kind is Kind.CLASSES:
        return objective
    if choice.select:
        raise InputError("select: epochs are judged by classes; the network has one output")
    if choice.objective in by_name.BOUNDS:
        raise InputError(
            f"objective {choice.objective}: it bounds margins between classes; there is one output"
        )
    if task.kind is Kind.BINARY:
        return TwoSided(objective, task)
    if choice.distil:
        raise InputError(
            "distil: a teacher's classes are learnt; the network's outputs are numbers"
        )
    return TaskLoss(task)


def _calm(objective: Objective, choice: TrainingChoice, model: Model) -> Objective:
    """The objective, and what changes of recurrent states cost."""
    if choice.temporal_sparsity == 0:
        return objective
    if not recurs(model.graph):
        raise InputError(
            f"{model.name} has no recurrent layer, whose states could stay as they are; leave it out",
            where=Setting("temporal_sparsity", choice.temporal_sparsity),
        )
    return TemporalSparsity(objective, choice.temporal_sparsity)


def _fabric(device: torch.device, precision: Literal["32-true", "bf16-mixed"]) -> Fabric:
    """One process, or those that torchrun started, on all its machines."""
    world = Processes.from_environment().world
    if world == 1:
        return make_fabric(accelerator=device.type, devices=1, precision=precision)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    fabric = make_fabric(
        accelerator=device.type, devices=here, num_nodes=world // here, strategy="ddp",
        precision=precision,
    )  # fmt: skip
    fabric.launch()
    return fabric


def meant_for(lesson: Lesson, purpose: str) -> Lesson:
    """The lesson of a training for one purpose, which takes up no checkpoint of another."""
    settings = PhaseSettings(**{**asdict(lesson.settings), "purpose": purpose})
    return replace(lesson, settings=settings)


def _variation(choice: TrainingChoice, model: Model) -> FlipAndShift | None:
    if not choice.flip and not choice.shift:
        return None
    shape = model.input_shape
    if len(shape) != 3:
        raise InputError(f"flip and shift vary images; the model takes {shape}: leave them out")
    if not 0 <= choice.shift < min(shape[1:]):
        raise InputError(f"shift {choice.shift}: give 0 to {min(shape[1:]) - 1} pixels")
    return FlipAndShift(choice.flip, choice.shift)


def _objective(choice: TrainingChoice, model: Model, task: Task) -> Objective:
    name, eps = by_name.objective(choice.objective), by_name.eps_of(choice.eps)
    if choice.ramp != TrainingChoice.ramp and name not in by_name.BOUNDS:
        raise InputError(
            f"objective {name} has no boxes that grow: leave ramp out, or choose one of "
            f"{', '.join(by_name.BOUNDS)}"
        )
    if name == "clean":
        if eps or choice.attack_steps or choice.beta or choice.select:
            raise InputError(
                "objective clean attacks nothing: leave eps, attack_steps, beta and select out, or "
                f"choose one of {', '.join(by_name.OBJECTIVES[1:])}"
            )
        return _clean(choice, model, task)
    if choice.distil or choice.teacher is not None:
        raise InputError(
            f"objective {name}: a teacher of clean images does not go with it; leave distil and "
            "teacher out, or choose objective clean"
        )
    if model.entry.interval != UNIT:
        raise InputError(
            f"objective {name}: eps counts in inputs of {UNIT}, and the model's are "
            f"{model.entry.interval}",
            Repair("mean", words="put the normalisation inside the model: {}"),
            Repair("std", words="{}"),
        )
    return bounds(name, eps, choice) if name in by_name.BOUNDS else adversarial(name, eps, choice)


def bounds(name: str, eps: float, choice: TrainingChoice) -> Bounds:
    """An objective that proves, by name; where the choice says 0, steps and beta are its own.

    Raises
    ------
    InputError
        If a number is outside its range, or is none of the objective's.
    """
    if not eps > 0:
        raise InputError(
            f"objective {name} proves", Repair("eps", "8/255", "say within which distance: {}")
        )
    if choice.smoothing:
        raise InputError(f"objective {name}: labels are not smoothed; give smoothing 0")
    if choice.select:
        raise InputError(
            f"select: epochs are judged by attacks, objective {name} trains for proofs; leave it out"
        )
    if name == "ibp":
        if choice.attack_steps:
            raise InputError("objective ibp attacks nothing: leave attack_steps out")
        return IntervalBounds(eps, choice.beta, choice.ramp)
    own = {"beta": choice.beta} if choice.beta else {}
    return SmallBoxes(eps, ramp=choice.ramp, steps=choice.attack_steps or 4, **own)


def adversarial(name: str, eps: float, choice: TrainingChoice) -> Adversarial:
    """An adversarial objective by name; where the choice says 0, steps and beta are its own.

    Steps are of 2.5 eps / steps (fast: 1.25 eps; rfgsm: eps / 2).

    Raises
    ------
    InputError
        If a number is outside its range, or is none of the objective's.
    """
    if not eps > 0:
        raise InputError(
            f"objective {name} attacks", Repair("eps", "8/255", "say how strongly: {}")
        )
    if name in ("fast", "rfgsm") and choice.attack_steps not in (0, 1):
        raise InputError(f"objective {name} takes a single step: leave attack_steps out")
    if name in ("pgd", "fast") and choice.beta:
        raise InputError(f"objective {name} has no beta: leave it out")
    beta, smoothing = {"beta": choice.beta} if choice.beta else {}, choice.smoothing
    if name == "fast":
        return FastAdversarial(eps, min(1.25 * eps, 1.0), smoothing)
    if name == "rfgsm":
        return RfgsmKl(eps, eps / 2, smoothing=smoothing, **beta)
    steps = choice.attack_steps or _STEPS
    size = min(2.5 * eps / max(steps, 1), 1.0)
    if name == "pgd":
        return PgdTraining(eps, steps, size, smoothing)
    kind = Trades if name == "trades" else Mart
    return kind(eps, steps, size, smoothing=smoothing, **beta)


def _ending(
    choice: TrainingChoice, objective: Objective, validation: DataTensors | None, seed: int
) -> Ending | None:
    averaging, selection = by_name.average(choice.average), None
    if choice.select:
        if validation is None:
            raise InputError(
                "select: epochs are judged on samples held out of training: give held_out"
            )
        eps = by_name.eps_of(choice.eps)
        steps = choice.attack_steps if choice.attack_steps > 1 else _STEPS
        selection = RobustSelection(
            validation, Ascent(eps, steps, min(2.5 * eps / steps, 1.0)), seed=seed
        )
    if averaging is None and selection is None:
        return None
    return FinalWeights(averaging, selection)


def _clean(choice: TrainingChoice, model: Model, task: Task) -> Objective:
    if not 0 <= choice.smoothing <= 1:
        raise InputError(f"smoothing {choice.smoothing:g}: give 0 to 1")
    if not 0 <= choice.distil <= 1:
        raise InputError(f"distil {choice.distil:g}: give the teacher's share of the loss, 0 to 1")
    if choice.distil == 0:
        if choice.teacher is not None:
            raise InputError(f"teacher {choice.teacher}: it has no share; give distil above 0")
        return CrossEntropy(choice.smoothing)
    source = model
    if choice.teacher is not None:  # it is shown what the model is shown
        source = load_graph(choice.teacher).declare(model.entry.interval)
    if source.input_shape != model.input_shape:
        raise InputError(
            f"teacher {choice.teacher}: takes samples of shape {source.input_shape}, the model "
            f"{model.input_shape}; give a network for the same data"
        )
    own = task_with(source.graph, None, f"teacher {source.name}", task.kind)
    if own.shape != task.shape:
        raise InputError(
            f"teacher {source.name}: has outputs of shape {own.shape}, the model {task.shape}; give a "
            "network for the same task"
        )
    teacher: nn.Module = GraphModule(source.graph).eval().requires_grad_(False)
    if task.kind is Kind.BINARY:
        teacher = TwoSidedModule(teacher, own)
    return Distillation(teacher, choice.distil, smoothing=choice.smoothing)
