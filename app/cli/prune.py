"""``spikemorph prune``: a sparse network from a trained one, fine-tuned under its masks."""

from pathlib import Path
from typing import Annotated

import typer

from spikemorph.graph.saving import save_graph
from spikemorph.prune import PruneTask

from .. import choices
from ..models import load_graph
from ..pruning import lesson_of, prune_model
from ..recipe import TrainingChoice
from ..report import prune_lines, sparsity_table
from . import options
from .options import out as console

OutOption = Annotated[Path, typer.Option("--out", help="Where to save the pruned model.")]


def prune(
    model: Annotated[
        str, typer.Argument(help=".onnx, .pt2, .safetensors, zoo:NAME, or module:factory")
    ],
    out: OutOption,
    sparsity: Annotated[float, typer.Option(help="Share of weights to remove, 0 <= share < 1.")],
    method: Annotated[str, typer.Option(help=", ".join(choices.METHODS))] = "magnitude",
    data: Annotated[
        str | None, typer.Option("--data", help="To train on: digits:train, FILE.npz, folder.")
    ] = None,
    allocation: Annotated[
        str | None, typer.Option(help="How layers share it: uniform, erk, lamp, global.")
    ] = None,
    epochs: Annotated[int, typer.Option(help="Of training, all phases together.")] = 5,
    rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 0.05,
    decay: Annotated[float, typer.Option(help="Weight decay.")] = 5e-4,
    smoothing: Annotated[float, typer.Option(help="Label smoothing.")] = 0.1,
    shift: Annotated[int, typer.Option(help="Vary images: move by up to so many pixels.")] = 0,
    flip: Annotated[bool, typer.Option(help="Vary images: mirror them.")] = False,
    distil: Annotated[
        float, typer.Option(help="Share of the loss that a teacher has, 0 to 1.")
    ] = 0.0,
    teacher: Annotated[
        str | None, typer.Option(help="Who teaches; default: the model as it is given.")
    ] = None,
    objective: Annotated[str, typer.Option(help=", ".join(choices.OBJECTIVES))] = "clean",
    eps: Annotated[
        str, typer.Option(help="How far the attacker in training may change a pixel: 8/255.")
    ] = "0",
    attack_steps: Annotated[
        int, typer.Option(help="Of the attacker; 0: the objective's own.", min=0)
    ] = 0,
    beta: Annotated[
        float, typer.Option(help="Price of robustness (trades, mart, rfgsm); 0: its own.", min=0)
    ] = 0.0,
    average: Annotated[str, typer.Option(help="Weights to end with: none, swa, ema.")] = "none",
    select: Annotated[
        bool, typer.Option(help="End with the epoch most robust on the held-out samples.")
    ] = False,
    held_out: Annotated[int, typer.Option(help="Samples kept for validation.")] = 0,
    precision: Annotated[str, typer.Option(help="32-true or bf16-mixed")] = "32-true",
    allow_empty: Annotated[bool, typer.Option(help="A layer may lose all its weights.")] = False,
    checkpoint: Annotated[
        Path | None, typer.Option(help="To resume from when stopped; removed at the end.")
    ] = None,
    input_range: options.RangeOption = None,
    input_shape: options.ShapeOption = None,
    weights: options.WeightsOption = None,
    json_file: options.JsonOption = None,
    seed: Annotated[
        int,
        typer.Option(
            "--seed", help="Of training and of what a method draws.", min=0, max=2**63 - 1
        ),
    ] = 0,
    device: options.DeviceOption = "cpu",
) -> None:
    """Mask weights and fine-tune under the mask; print the sparsity of every layer."""
    where = options.device(device)
    chosen, spread = choices.method(method), choices.allocation(allocation)
    options.can_be_written(out, json_file)
    found = load_graph(model, input_shape=options.shape(input_shape), weights=weights)
    lesson, validation = None, None
    if data is not None:
        numbers = TrainingChoice(
            epochs=epochs, rate=rate, decay=decay, smoothing=smoothing, shift=shift, flip=flip,
            held_out=held_out, distil=distil, teacher=teacher, precision=precision,
            objective=objective, eps=eps, attack_steps=attack_steps, beta=beta,
            average=average, select=select,
        )  # fmt: skip
        ends = options.input_range(input_range, found.input_range)
        lesson, validation = lesson_of(
            numbers, options.read_data(data), found, ends, seed,
            checkpoint=checkpoint, device=where, tell=options.tell_epoch,
        )  # fmt: skip
    task = PruneTask(found.graph, sparsity, spread, lesson, seed, allow_empty)
    graph, result = prune_model(found.name, chosen, task, validation)
    save_graph(out, graph)
    options.write_json(json_file, result.to_dict())
    options.clean_up(checkpoint)
    console.print(sparsity_table(result))
    untrained = [] if lesson else ["not trained after pruning: give training data with --data"]
    options.say(*prune_lines(result), *untrained, f"saved {out}")
