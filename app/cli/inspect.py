"""``spikemorph inspect``: what a model is made of, what converts, what does not and why."""

from typing import Annotated

import typer

from ..front.entry import inspect as inspect_model
from ..report import inspection_table
from ..report.formats import plural
from . import options, output
from .output import out as console


def inspect(
    model: Annotated[
        str, typer.Argument(help=".onnx, .pt2, .safetensors, zoo:NAME, or module:factory")
    ],
    input_shape: options.ShapeOption = None,
    weights: options.WeightsOption = None,
    json_file: output.JsonOption = None,
    csv_file: output.CsvOption = None,
    quiet: output.QuietOption = False,
    seed: options.SeedOption = 0,
    device: options.DeviceOption = "cpu",
) -> None:
    """List every node and what becomes of it. Exit status 3 if a part cannot be converted."""
    options.device(device)
    options.can_be_written(None, json_file, model, weights, csv_file=csv_file)
    result = inspect_model(
        model, input_shape=options.shape(input_shape), weights=weights, tell=output.tell
    )
    output.write_json(json_file, result.to_dict())
    output.write_csv(csv_file, result.to_dict()["nodes"])
    output.show(inspection_table(result))
    if not result.supported:
        refused = sum(not node.converts for node in result.nodes) - result.unseen
        said = f"{plural(refused, 'node')} cannot be converted"
        if result.unseen:
            said += f"; {plural(result.unseen, 'node')} behind were not looked at"
        console.print(said, style="bold red")
        raise typer.Exit(3)
    console.print("every node converts", style="green")
