"""``spikemorph prune``: a sparse network from a trained one, fine-tuned under its masks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from spikemorph.graph import InputError

from ..choices import by_name
from ..choices.settings import TrainingChoice
from ..front.pruned import prune_samples
from ..report import prune_lines, sparsity_table
from ..sources import sampling
from ..training.extra import extra_of
from ..training.prune import PruneResult
from . import options, output, training
from .seeds import SeedsOption, Turn, together, turns

OutOption = Annotated[Path, typer.Option("--out", help="Where to save the pruned model.")]


def prune(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(help=".onnx, .pt2, .safetensors, zoo:NAME, or module:factory")
    ],
    out: OutOption,
    sparsity: Annotated[float, typer.Option(help="Share of weights to remove, 0 <= share < 1.")],
    method: Annotated[str, typer.Option(help=", ".join(by_name.METHODS))] = "magnitude",
    data: Annotated[
        str | None, typer.Option("--data", help="To train on: digits:train, FILE.npz, folder.")
    ] = None,
    allocation: Annotated[
        str | None, typer.Option(help="How layers share it: uniform, erk, lamp, global.")
    ] = None,
    epochs: training.Epochs = 5,
    batch: training.Batch = 128,
    rate: training.Rate = 0.05,
    decay: training.Decay = 5e-4,
    clip: training.Clip = 0.0,
    temporal_sparsity: training.TemporalSparsity = 0.0,
    smoothing: training.Smoothing = 0.1,
    shift: training.Shift = 0,
    flip: training.Flip = False,
    distil: training.Distil = 0.0,
    teacher: training.Teacher = None,
    average: training.Average = "none",
    objective: training.Objective = "clean",
    eps: training.Eps = "0",
    attack_steps: training.AttackSteps = 0,
    beta: training.Beta = 0.0,
    ramp: training.Ramp = 0.5,
    select: training.Select = False,
    held_out: training.HeldOut = 0,
    extra: training.ExtraData = None,
    extra_share: training.ExtraShare = 0.5,
    labeller: training.Labeller = None,
    precision: training.Precision = "32-true",
    allow_empty: Annotated[bool, typer.Option(help="A layer may lose all its weights.")] = False,
    checkpoint: training.Checkpoint = None,
    input_range: options.RangeOption = None,
    mean: options.MeanOption = None,
    std: options.StdOption = None,
    input_shape: options.ShapeOption = None,
    weights: options.WeightsOption = None,
    task: options.TaskOption = None,
    json_file: output.JsonOption = None,
    csv_file: output.CsvOption = None,
    quiet: output.QuietOption = False,
    seed: training.Seed = 0,
    seeds: SeedsOption = None,
    device: options.DeviceOption = "cpu",
) -> None:
    """Mask weights and fine-tune under the mask; print the sparsity of every layer."""
    where = options.device(device)
    by_name.method(method), by_name.allocation(allocation)  # refused before anything is read
    wanted = turns(context, seed, seeds, out, checkpoint)
    for turn in wanted:
        options.can_be_written(
            turn.out, json_file, model, weights, data, teacher, extra, labeller, csv_file=csv_file
        )
    sampling.refuse_test_data(data, extra)
    found = options.load(model, input_shape, weights, mean, std)
    granted: list[str] = []
    if data is not None or input_range is not None:
        found, granted = options.declared(found, input_range)
    if data is None and (extra or labeller):
        raise InputError("--extra and --labeller go with --data: give training data")
    numbers = TrainingChoice(
        epochs=epochs, batch=batch, rate=rate, decay=decay, clip=clip, smoothing=smoothing,
        temporal_sparsity=temporal_sparsity, shift=shift, flip=flip,
        held_out=held_out, distil=distil, teacher=teacher, precision=precision,
        objective=objective, eps=eps, attack_steps=attack_steps, beta=beta, ramp=ramp,
        average=average, select=select,
    )  # fmt: skip
    train = None if data is None else options.read_data(data, task=task, entry=found.entry)
    more = extra_of(extra, extra_share, labeller, options.read_data, train)
    results = []
    for turn in wanted:
        pruned = prune_samples(
            found, sparsity, train, numbers, method=method, allocation=allocation, seed=turn.seed,
            allow_empty=allow_empty, checkpoint=turn.checkpoint, device=where,
            tell=options.tell_epoch, extra=more,
        )  # fmt: skip
        if options.is_follower():
            continue
        results.append(pruned.result)
        pruned.save(turn.out)
        options.clean_up(turn.checkpoint)
        output.show(sparsity_table(pruned.result))
        untrained = [] if train else ["not trained after pruning: give training data with --data"]
        output.say(*prune_lines(pruned.result), *untrained, *granted, f"saved {turn.out}")
    if not options.is_follower():
        _write(wanted, results, seeds, json_file, csv_file)


def _write(
    done: Sequence[Turn],
    results: Sequence[PruneResult],
    seeds: str | None,
    json_file: Path | None,
    csv_file: Path | None,
) -> None:
    """The result as files: of the one training, or of all of them together."""
    plain: dict[str, Any] = results[0].to_dict()
    rows = plain["layers"]
    if seeds is not None:
        runs = [one.to_dict() for one in results]
        plain, lines = together(done, runs, [one.validation_after for one in results])
        rows = [
            {"seed": turn.seed, **layer}
            for turn, run in zip(done, runs, strict=True)
            for layer in run["layers"]
        ]
        output.say(*lines)
    output.write_json(json_file, plain)
    output.write_csv(csv_file, rows)
