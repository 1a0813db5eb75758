"""Train a network through time: neurons for its ReLUs, thresholds calibrated, connections kept."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikemorph.graph import Graph, InputError
from spikemorph.graph.saving import file_kind
from spikemorph.graph.tasks import Kind, Task
from spikemorph.prune import Lesson
from spikemorph.prune.masked import learn_to_the_end
from spikemorph.surrogate import Dynamics, SpikingModule
from spikemorph.surrogate.by_name import surrogate_of
from spikemorph.surrogate.folded_network import KIND as DEPLOYED
from spikemorph.surrogate.folded_network import (
    DeployedNetwork,
    load_deployed,
    measure_activity,
    run_deployed,
)
from spikemorph.surrogate.folding import fold
from spikemorph.surrogate.thresholds import Calibration
from spikemorph.surrogate.to_trainable import masks_kept, to_trainable
from spikemorph.surrogate.trained_file import KIND as TRAINED
from spikemorph.surrogate.trained_file import load_trained
from spikemorph.train import DataTensors
from spikemorph.train.measure import score

from ..choices.settings import TimeChoice
from ..sources.tasks import task_with
from .settings import meant_for

_BATCH = 50


@dataclass(frozen=True)
class InTime:
    """What training through time did; accuracies in per cent on held-out samples."""

    module: SpikingModule
    thresholds: dict[str, float]
    validation_before: float | None
    validation_after: float | None
    seconds: float


def train_in_time(
    graph: Graph, choice: TimeChoice, lesson: Lesson, validation: DataTensors | None = None
) -> InTime:
    """Calibrate and train a float graph through time, under its masks.

    Raises
    ------
    InputError
        If a number of the choice is outside its range.
    GraphError
        If a mask was not kept.
    """
    began = time.perf_counter()
    device = torch.device("cpu") if lesson.fabric is None else lesson.fabric.device
    if choice.samples:
        lesson = replace(lesson, train=_some(lesson, choice.samples))
    module = started(graph, choice, _some(lesson, choice.calibration_samples).x, device)
    before = None if validation is None else score(module, validation, lesson.task)
    learn_to_the_end(module, meant_for(lesson, f"through time, {choice}"), check=masks_kept(module))
    module.eval()
    after = None if validation is None else score(module, validation, lesson.task)
    module.cpu()
    thresholds = {name: float(value.detach()) for name, value in module.thresholds.items()}
    return InTime(module, thresholds, before, after, round(time.perf_counter() - began, 1))


def started(
    graph: Graph, choice: TimeChoice, x: Tensor, device: torch.device | None = None
) -> SpikingModule:
    """The network calibrated on samples, before any training through time; on a device, or the CPU."""
    dynamics, calibration = settings_of(choice)
    surrogate = surrogate_of(choice.surrogate)
    return to_trainable(graph, dynamics, x.to(device), calibration, surrogate=surrogate)


def settings_of(choice: TimeChoice) -> tuple[Dynamics, Calibration]:
    """How all neurons run, and how their first thresholds are found.

    Raises
    ------
    InputError
        If the reset or the surrogate is unknown, or a number is outside its range.
    """
    surrogate_of(choice.surrogate)
    if choice.reset not in ("hard", "soft"):
        raise InputError(f"reset {choice.reset!r}: choose hard or soft")
    dynamics = Dynamics(choice.steps, choice.leak, choice.reset == "hard")
    return dynamics, Calibration(choice.percentile, choice.calibration_steps, scale=choice.scale)


def _some(lesson: Lesson, most: int) -> DataTensors:
    """At most so many training samples, drawn by the lesson's seed: files are sorted at times."""
    generator = torch.Generator().manual_seed(lesson.settings.seed)
    return lesson.train.only(torch.randperm(len(lesson.train), generator=generator)[:most])


def open_in_time(path: Path) -> tuple[DeployedNetwork, dict[str, Any]] | None:
    """A network that was trained through time, folded, and its notes; None for a file of another kind.

    Raises
    ------
    InputError
        If the file is missing or damaged.
    """
    kind = file_kind(path)
    if kind == DEPLOYED:
        return load_deployed(path)
    if kind != TRAINED:
        return None
    module, notes = load_trained(path)
    return fold(module), notes


def measure_in_time(
    network: DeployedNetwork,
    x: Tensor,
    y: Tensor | None,
    counted: int,
    shown: int = 0,
    steps: Sequence[int] | None = None,
    task: Task | None = None,
) -> dict[str, Any]:
    """Accuracy over steps on the first `shown` samples, and at last on all; spikes and operations.

    The steps are 1, 2, 4, ... and the network's own; or those given, no more than its own.

    These are counted on the first `counted` samples; 0 stands for all. ``synops`` are spikes that
    reach weights that are not zero, ``products`` numbers that are no spikes (the input's); per
    inference. Accuracies are None without labels.
    """
    counted, shown = (min(most or len(x), len(x)) for most in (counted, shown))
    task = task or task_with(network.graph, y, "the data")
    if task.kind is Kind.VALUES:
        raise InputError(
            "networks trained through time choose classes; their outputs are no numbers"
        )
    everything = _answers(network, x, task)
    chosen = (1, 2, 4, 8, 16, 32, 64) if steps is None else sorted(set(steps))
    curve = []
    for t in [*(t for t in chosen if t < network.steps), network.steps]:
        last = t == network.steps
        shorter = DeployedNetwork(network.graph, t)
        answers = everything[:shown] if last else _answers(shorter, x[:shown], task)
        right = task.share(answers, None if y is None else y[:shown])
        curve.append({"steps": t, "accuracy": right})
    seen = [measure_activity(network, part) for part in x[:counted].split(_BATCH)]
    totals = {
        name: sum(float(one.sum()) for activity in seen for one in getattr(activity, name).values())
        / max(1, counted)
        for name in ("spikes", "accumulates", "products")
    }
    return {
        "n": shown,
        "counted": counted,
        "steps": network.steps,
        "accuracy": curve[-1]["accuracy"],
        "curve": curve,
        "whole": {"n": len(x), "accuracy": task.share(everything, y)},
        "neurons": sum(seen[0].neurons.values()) if seen else None,
        "spikes_per_inference": totals["spikes"],
        "synops": totals["accumulates"],
        "products": totals["products"],
    }


def _answers(network: DeployedNetwork, x: Tensor, task: Task) -> Tensor:
    return torch.cat([task.answers(run_deployed(network, part)) for part in x.split(_BATCH)])
