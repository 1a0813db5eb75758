"""``spikemorph finetune``: train a float model on, under quantisation, or through time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from spikemorph.graph import InputError
from spikemorph.graph.grid import Grid
from spikemorph.graph.saving import save_graph
from spikemorph.layers.integer_pass import IntegerPass
from spikemorph.prune import Lesson, PruneTask
from spikemorph.quant import Quantisation
from spikemorph.spiking import save_network
from spikemorph.surrogate.trained_file import save_trained
from spikemorph.train import DataTensors
from spikemorph.zoo import Samples

from ..choices import by_name
from ..choices.settings import IN_TIME, LEARNED, TimeChoice, TrainingChoice
from ..report import plain_certificate
from ..sources import sampling
from ..sources.models import Model
from ..training.dense import train_model
from ..training.extra import extra_of
from ..training.prune import right, unit_of
from ..training.quantisation_aware import train_converted
from ..training.settings import lesson_of
from ..training.through_time import train_in_time
from . import options, output, training
from .seeds import SeedsOption, Turn, together, turns

FLOAT = "float"
_QUANTISED, _TIMED = "Road quantisation-aware", "Road through-time"
Told = tuple[dict[str, Any], list[str]]  # the result as plain data, and what to say of it
_ROADS = (FLOAT, LEARNED, IN_TIME)
_OWN = {  # options that one road alone takes
    **dict.fromkeys(("levels", "weight_bits", "input_bits"), LEARNED),
    **dict.fromkeys(("steps", "leak", "reset", "percentile", "scale", "surrogate"), IN_TIME),
}


def finetune(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(help=".onnx, .pt2, .safetensors, zoo:NAME, or module:factory")
    ],
    data: Annotated[str, typer.Option("--data", help="To train on: digits:train, FILE.npz.")],
    out: Annotated[Path, typer.Option("--out", help="Where to save what was trained.")],
    road: Annotated[str, typer.Option(help=", ".join(_ROADS))] = FLOAT,
    epochs: training.Epochs = 5,
    batch: training.Batch = 128,
    rate: training.Rate = 0.01,
    decay: training.Decay = 1e-4,
    clip: training.Clip = 0.0,
    temporal_sparsity: training.TemporalSparsity = 0.0,
    smoothing: training.Smoothing = 0.0,
    shift: training.Shift = 0,
    flip: training.Flip = False,
    distil: training.Distil = 0.0,
    teacher: training.Teacher = None,
    average: training.Average = "none",
    held_out: training.HeldOut = 0,
    objective: training.Objective = "clean",
    eps: training.Eps = "0",
    attack_steps: training.AttackSteps = 0,
    beta: training.Beta = 0.0,
    ramp: training.Ramp = 0.5,
    select: training.Select = False,
    extra: training.ExtraData = None,
    extra_share: training.ExtraShare = 0.5,
    labeller: training.Labeller = None,
    precision: training.Precision = "32-true",
    levels: Annotated[
        int, typer.Option(help="Values of an activation.", rich_help_panel=_QUANTISED)
    ] = 16,
    weight_bits: Annotated[
        int, typer.Option(help="Bits of a weight.", rich_help_panel=_QUANTISED)
    ] = 8,
    input_bits: Annotated[
        int, typer.Option(help="Of the input grid.", rich_help_panel=_QUANTISED)
    ] = 8,
    steps: Annotated[int, typer.Option(help="Time steps T.", rich_help_panel=_TIMED, min=1)] = 8,
    leak: Annotated[
        float, typer.Option(help="1 (IF) or less (LIF).", rich_help_panel=_TIMED)
    ] = 1.0,
    reset: Annotated[str, typer.Option(help="hard or soft", rich_help_panel=_TIMED)] = "hard",
    percentile: Annotated[
        float, typer.Option(help="Of first thresholds.", rich_help_panel=_TIMED)
    ] = 99.7,
    scale: Annotated[
        float, typer.Option(help="Of first thresholds.", rich_help_panel=_TIMED)
    ] = 0.3,
    surrogate: Annotated[
        str,
        typer.Option(
            help="For gradients: pcw 1, exp 0.3 2, rect 1, arctan 2, sigmoid 4.",
            rich_help_panel=_TIMED,
        ),
    ] = "pcw 1",
    checkpoint: training.Checkpoint = None,
    input_range: options.RangeOption = None,
    mean: options.MeanOption = None,
    std: options.StdOption = None,
    input_shape: options.ShapeOption = None,
    weights: options.WeightsOption = None,
    task: options.TaskOption = None,
    json_file: output.JsonOption = None,
    quiet: output.QuietOption = False,
    seed: training.Seed = 0,
    seeds: SeedsOption = None,
    device: options.DeviceOption = "cpu",
) -> None:
    """Fine-tune; masks are kept to the bit. Only training data is looked at."""
    if road not in _ROADS:
        raise InputError(f"--road {road}: choose one of {', '.join(_ROADS)}")
    _refuse_of_other_roads(context, road)
    sampling.refuse_test_data(data, extra)
    wanted = turns(context, seed, seeds, out, checkpoint)
    for turn in wanted:
        options.can_be_written(turn.out, json_file, model, weights, data, teacher, extra, labeller)
    found = options.load(model, input_shape, weights, mean, std)
    found, granted = options.declared(found, input_range)
    numbers = TrainingChoice(
        epochs=epochs, batch=batch, rate=rate, decay=decay, clip=clip, smoothing=smoothing,
        temporal_sparsity=temporal_sparsity, shift=shift, flip=flip,
        held_out=held_out, distil=distil, teacher=teacher, precision=precision,
        objective=objective, eps=eps, attack_steps=attack_steps, beta=beta, ramp=ramp, average=average,
        select=select,
    )  # fmt: skip
    train = options.read_data(data, task=task, entry=found.entry)
    more = extra_of(extra, extra_share, labeller, options.read_data, train)
    timed = TimeChoice(steps, leak, reset, percentile, scale, surrogate=surrogate)
    exact = _Exact(Grid.over(found.entry.interval, input_bits), Quantisation(levels, weight_bits))
    results = []
    for turn in wanted:
        lesson, validation = lesson_of(
            numbers, train, found, turn.seed, extra=more, checkpoint=turn.checkpoint,
            device=options.device(device), tell=options.tell_epoch,
        )  # fmt: skip
        job = _Job(found, train, lesson, validation, turn)
        result, lines = job.trained({FLOAT: None, IN_TIME: timed, LEARNED: exact}[road])
        if not options.is_follower():
            results.append({"road": road, **result})
            options.clean_up(turn.checkpoint)
            output.say(*lines, *granted, f"saved {turn.out}")
    if not options.is_follower():
        _write(wanted, results, seeds, json_file)


def _write(
    done: Sequence[Turn], results: list[dict[str, Any]], seeds: str | None, json_file: Path | None
) -> None:
    """The result as JSON: of the one training, or of all of them together."""
    plain: dict[str, Any] = results[0]
    if seeds is not None:
        plain, lines = together(done, results, [_after(one) for one in results])
        output.say(*lines)
    output.write_json(json_file, plain)


def _after(result: Mapping[str, Any]) -> float | None:
    """What held-out samples gave after training."""
    found: float | None = (
        result["validation"][1] if "validation" in result else result["validation_after"]
    )
    return found


def _refuse_of_other_roads(context: typer.Context, road: str) -> None:
    for name, owner in _OWN.items():
        source = context.get_parameter_source(name)
        if owner != road and source is not None and source.name == "COMMANDLINE":
            option = name.replace("_", "-")
            raise InputError(f"--{option} belongs to --road {owner}; this is --road {road}")


@dataclass(frozen=True)
class _Exact:
    """How a network is quantised that is trained so: the grid of its inputs, and all else."""

    grid: Grid
    quantisation: Quantisation


@dataclass(frozen=True)
class _Job:
    """What is trained, on what, by which seed, and where it is saved."""

    model: Model
    train: Samples
    lesson: Lesson
    validation: DataTensors | None
    turn: Turn

    @property
    def notes(self) -> dict[str, Any]:
        """What the file says of where it comes from."""
        return {"model": self.model.name, "calibration": self.train.name}

    def save(self, write: Callable[..., None], *what: Any) -> None:
        """Save, in one process of all that train together."""
        if not options.is_follower():
            write(self.turn.out, *what)

    def trained(self, how: TimeChoice | _Exact | None) -> Told:
        """By the road that the settings are of; None is in floats."""
        if how is None:
            return self._on_floats()
        return self._through_time(how) if isinstance(how, TimeChoice) else self._on_integers(how)

    def _through_time(self, choice: TimeChoice) -> Told:
        done = train_in_time(self.model.graph, choice, self.lesson, self.validation)
        self.save(save_trained, done.module, self.notes | {"thresholds": done.thresholds})
        before, after = done.validation_before, done.validation_after
        told = f"thresholds: {', '.join(f'{v:.3g}' for v in done.thresholds.values())}"
        result = {"thresholds": done.thresholds, "validation": [before, after]}
        return result | {"seconds": done.seconds}, [*_gained(before, after, self.lesson), told]

    def _on_integers(self, how: _Exact) -> Told:
        shown = sampling.values(sampling.drawn(self.train, self.turn.seed), self.model.entry)
        made = train_converted(
            self.model.graph, shown, self.lesson, grid=how.grid, quantisation=how.quantisation,
            neuron=by_name.neuron("pow2"), coding=by_name.coding("analog"),
            schedule=by_name.schedule("free"),
        )  # fmt: skip
        self.save(save_network, made.network, made.notes(**self.notes))
        before, after = right(self.model.graph, self.validation, self.lesson), None
        if self.validation is not None:
            (x, y), task = (self.validation.x, self.validation.y), self.lesson.task
            assert task is not None
            answers = task.answers(IntegerPass(made.network.graph).outputs(x))
            error = task.error(answers, y)
            after = task.share(answers, y) if error is None else error.rmse
        result = {"certificate": made.certificate.to_dict(), "validation": [before, after]}
        told = plain_certificate(made.certificate)
        return result, [*_gained(before, after, self.lesson), *told]

    def _on_floats(self) -> Told:
        task = PruneTask(self.model.graph, 0.0, lesson=self.lesson, seed=self.turn.seed)
        graph, trained = train_model(self.model.name, task, self.validation)
        self.save(save_graph, graph)
        return trained.to_dict(), _gained(
            trained.validation_before, trained.validation_after, self.lesson
        )


def _gained(before: float | None, after: float | None, lesson: Lesson) -> list[str]:
    if before is None or after is None:
        return ["accuracy was not measured: keep samples back with --held-out"]
    if unit_of(lesson) == "rmse":
        return [f"held-out samples: root mean square error {before:.4g} -> {after:.4g}"]
    return [f"held-out samples: {before:.2f} % -> {after:.2f} %"]
