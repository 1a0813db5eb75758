"""Measure a spiking network on data: accuracy over time, agreement with the integer pass, spikes."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spikemorph.convert import Certificate
from spikemorph.graph import Graph, InputError, run
from spikemorph.graph.batches import batch_size, pieces
from spikemorph.graph.brief import brief_repr
from spikemorph.graph.errors import Repair, Setting
from spikemorph.graph.tasks import Kind, Task
from spikemorph.layers.integer_pass import IntegerPass
from spikemorph.spiking import SpikingNetwork
from spikemorph.spiking.engine import Runs
from spikemorph.spiking.exits import ExitRule, confidence, conformal_threshold, exit_steps
from spikemorph.spiking.segmented import SegmentedEngine
from spikemorph.spiking.trace import require_steps

from ..sources.tasks import task_with
from .results import CurvePoint, EarlyExit, Errors, EvaluationResult, Letters, Settled

Watch = Callable[[int], None]  # told how many samples are done


@dataclass(frozen=True)
class Measured:
    """What a run over all samples gave; tensors over (step, sample) unless said."""

    answers: Tensor  # (step, sample, *positions) what the task reads, at every step
    differing: Tensor | None  # integers that differ from the integer pass; None if rate-coded
    spikes: Tensor  # sent at every step
    settled: Tensor  # (sample,)
    integer_answers: Tensor  # (sample, *positions)
    outputs: Tensor  # (step, sample, *shape) float64
    counts: int  # outputs per sample

    __repr__ = brief_repr

    def mismatches(self, step: int) -> int | None:
        """How many integers differ from the integer pass after a step."""
        return None if self.differing is None else int(self.differing[step - 1].sum())


def measure(
    network: SpikingNetwork,
    engine: Runs,
    x: Tensor,
    steps: int,
    watch: Watch = lambda _: None,
    task: Task | None = None,
    lengths: Tensor | None = None,
) -> Measured:
    """Run all samples `x` through the engine and, apart from it, through the integer pass.

    The spiking outputs come from the simulation alone; the integer pass is what they are compared
    with, never where they come from. Without a task the largest output is the answer. `lengths`
    (sample,) are those of sequences that are not all full.
    """
    require_steps(steps)
    if not len(x):
        raise InputError("the data is empty: give at least one sample")
    parts, task = [], task or task_with(network.graph, None, "network")
    integers = IntegerPass(network.graph)
    size = batch_size(network.graph, min(steps, engine.stride))
    for batch, long in pieces(x, lengths, size):
        parts.append(_measure_batch(engine, integers, batch, long, steps, task))
        watch(len(batch))
    differing = [part.differing for part in parts if part.differing is not None]
    return Measured(
        answers=torch.cat([part.answers for part in parts], 1),
        differing=None if network.rate_coded else torch.cat(differing, 1),
        spikes=torch.cat([part.spikes for part in parts], 1),
        settled=torch.cat([part.settled for part in parts]),
        integer_answers=torch.cat([part.integer_answers for part in parts]),
        outputs=torch.cat([part.outputs for part in parts], 1),
        counts=parts[0].counts,
    )


def _measure_batch(
    engine: Runs,
    integers: IntegerPass,
    x: Tensor,
    lengths: Tensor | None,
    steps: int,
    task: Task,
) -> Measured:
    network, wanted = engine.network, integers(x, lengths)
    if isinstance(engine, SegmentedEngine):
        trace = engine.run(x, steps, lengths=lengths)
    else:
        trace = engine.run(x, steps)
    real = trace.real_outputs(network)
    return Measured(
        answers=task.answers(real),
        differing=None if network.rate_coded else (trace.outputs != wanted).flatten(2).sum(2),
        spikes=trace.spikes(),
        settled=trace.settled,
        integer_answers=task.answers(network.readout.real(wanted)),
        outputs=real,
        counts=wanted[0].numel(),
    )


def spiking_outputs(engine: Runs, x: Tensor, steps: int) -> Tensor:
    """(step, sample, *shape) float64 real outputs of all samples."""
    parts = x.split(batch_size(engine.network.graph, min(steps, engine.stride)))
    return torch.cat([engine.run(p, steps).real_outputs(engine.network) for p in parts], 1)


def evaluate(
    network: SpikingNetwork,
    engine: Runs,
    certificate: Certificate,
    x: Tensor,
    y: Tensor | None,
    *,
    steps: Sequence[int],
    names: tuple[str, str] = ("network", "data"),
    float_graph: Graph | None = None,
    exit_rule: ExitRule | None = None,
    exit_calibration: Tensor | None = None,
    watch: Watch = lambda _: None,
    task: Task | None = None,
    lengths: Tensor | None = None,
) -> EvaluationResult:
    """Accuracy over time steps.

    Parameters
    ----------
    network, engine, certificate
        What is run, by what, and what is proved of it.
    x, y : Tensor
        (sample, *shape) real inputs on the grid's range; labels or targets of the task, or None.
    steps : sequence of int
        Where the curve is read; the last is how long the network is run.
    names : (str, str)
        Of the model and of the data.
    float_graph : Graph, optional
        To measure the float network on the same samples.
    exit_rule, exit_calibration
        An early-exit rule, and the samples that a conformal one is calibrated on.
    task : Task, optional
        What outputs answer; inferred from them and the labels by default.
    lengths : Tensor, optional
        (sample,) how many elements of each sequence there are, where not all are full.

    Raises
    ------
    InputError
        If the data is empty, outside the grid, or a label is none of the task's; if there are no steps,
        or one of them is below 1.
    """
    began = time.perf_counter()
    last = max(steps, default=0)
    require_steps(min(steps, default=0))
    task = task or task_with(network.graph, y, names[1])
    task.require(y, names[1])
    found = measure(network, engine, x, last, watch, task, lengths)
    wishes = sorted(set(steps))
    at = dict.fromkeys(wishes, found)
    if network.recurrent:  # every element is given so many steps, so each is a run of its own
        require_no_exit(exit_rule)
        at |= {s: measure(network, engine, x, s, watch, task, lengths) for s in wishes[:-1]}
    floats = None if float_graph is None else float_answers(float_graph, x, task, lengths)
    wanted = floats if network.rate_coded else found.integer_answers
    early = None
    if exit_rule is not None:
        held = exit_calibration
        known = None if held is None else spiking_outputs(engine, held, last)
        early = _early(exit_rule, found, y, wanted, known, task)
    return EvaluationResult(
        model=names[0],
        data=names[1],
        n=len(x),
        outputs=found.counts,
        neuron=next((neuron.name for _, neuron in network.neurons), "none"),
        float_accuracy=None if floats is None else task.share(floats, y),
        integer_accuracy=None if network.rate_coded else task.share(found.integer_answers, y),
        curve=tuple(_point(own, y, wanted, step, task) for step, own in at.items()),
        settled=_settled(found, y, last, task),
        certificate=certificate,
        seconds=round(time.perf_counter() - began, 3),
        exit=early,
        task=task.kind,
        error=_errors(found, y, floats, task),
        letters=_letters(found, y, floats, task),
    )


def require_no_exit(rule: ExitRule | None) -> None:
    """Refuse to end a recurrent network early.

    Raises
    ------
    InputError
        If there is a rule.
    """
    if rule is not None:
        raise InputError(
            "a recurrent network ends with its last element, not by a rule of steps",
            Repair("exit_rule", "none"),
        )


def _letters(
    found: Measured, y: Tensor | None, floats: Tensor | None, task: Task
) -> Letters | None:
    """How many letters are wrong, where strings are read."""
    if task.kind is not Kind.STRINGS or y is None:
        return None
    return Letters(
        float_errors=None if floats is None else task.letter_errors(floats, y),
        integer_errors=task.letter_errors(found.integer_answers, y),
        spiking_errors=task.letter_errors(found.answers[-1], y),
    )


def _errors(found: Measured, y: Tensor | None, floats: Tensor | None, task: Task) -> Errors | None:
    """How far numbers lie apart, where outputs are numbers."""
    if task.kind is not Kind.VALUES:
        return None
    return Errors(
        float_to_targets=None if floats is None else task.error(floats, y),
        integer_to_targets=task.error(found.integer_answers, y),
        integer_to_float=task.error(found.integer_answers, floats),
        spiking_to_targets=task.error(found.answers[-1], y),
    )


def float_answers(graph: Graph, x: Tensor, task: Task, lengths: Tensor | None = None) -> Tensor:
    """(sample, *positions) what the float network answers; of sequences of these lengths."""
    parts = pieces(x, lengths, batch_size(graph))
    with torch.no_grad():
        return torch.cat([task.answers(run(graph, batch, long)) for batch, long in parts])


def _point(
    found: Measured, y: Tensor | None, wanted: Tensor | None, step: int, task: Task
) -> CurvePoint:
    answers = found.answers[step - 1]
    spikes = float(found.spikes[:step].sum(0).double().mean())
    return CurvePoint(
        step, task.share(answers, y), task.share(answers, wanted), found.mismatches(step), spikes,
        task.error(answers, wanted), task.error(answers, y),
    )  # fmt: skip


def _settled(found: Measured, y: Tensor | None, last: int, task: Task) -> Settled:
    silent = found.settled >= 0
    until = torch.where(silent, found.settled, torch.full_like(found.settled, last))
    return Settled(
        steps_max=int(until.max()),
        steps_mean=float(until.double().mean()),
        accuracy=task.share(found.answers[-1], y),
        mismatching_logits=found.mismatches(last),
        silent_share=100 * float(silent.double().mean()),
    )


def _early(
    rule: ExitRule,
    found: Measured,
    y: Tensor | None,
    wanted: Tensor | None,
    calibration: Tensor | None,
    task: Task,
) -> EarlyExit:
    last = len(found.outputs)
    if rule.kind != "silent":
        outputs = _one_row(task.one_class(f"exit {rule.kind}").two_sided(found.outputs))
    if rule.kind == "silent":
        at = torch.where(found.settled >= 0, found.settled.clamp(min=1), last)
    elif rule.kind == "confidence":
        at = exit_steps(confidence(outputs), rule.value)
    else:
        if calibration is None:
            raise InputError(
                "samples are needed that are no test data",
                Repair("calibration"),
                where=Setting("exit_rule", rule.kind),
            )
        at = exit_steps(
            confidence(outputs),
            conformal_threshold(_one_row(task.two_sided(calibration)), rule.value),
        )
    answers = found.answers[at - 1, torch.arange(len(at))]
    name = rule.kind if rule.kind == "silent" else f"{rule.kind}={rule.value:g}"
    return EarlyExit(
        name, float(at.double().mean()), task.share(answers, y), task.share(answers, wanted)
    )


def _one_row(outputs: Tensor) -> Tensor:
    """(step, sample, class), of a task that chooses one class a sample."""
    return outputs.flatten(2)
