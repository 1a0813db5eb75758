"""``spikemorph convert``: a model in, a certified spiking network out."""

from pathlib import Path
from typing import Annotated

import typer

from spikemorph.graph.grid import Grid
from spikemorph.quant import Quantisation
from spikemorph.spiking import save_network

from ..choices import by_name
from ..conversion import convert_graph, convert_rate_coded
from ..measures.diagnosis import diagnose, warnings
from ..report import curve_table, plain_certificate, summary_lines
from ..sources import sampling
from ..sources.tasks import task_for
from . import options
from .running import evaluated

OutOption = Annotated[Path, typer.Option("--out", help="Where to save the network (.safetensors).")]


def convert(
    model: Annotated[
        str, typer.Argument(help=".onnx, .pt2, .safetensors, zoo:NAME, or module:factory")
    ],
    data: Annotated[
        str, typer.Option("--data", help="digits:test, mnist:test:1000, FILE.npz, folder")
    ],
    out: OutOption,
    calibration: Annotated[
        str | None, typer.Option("--calibration", help="Samples to calibrate on; never test data.")
    ] = None,
    levels: Annotated[int, typer.Option(help="Values an activation can take.")] = 16,
    weight_bits: Annotated[int, typer.Option(help="2 to 8, or 16.")] = 8,
    neuron: Annotated[str, typer.Option(help=", ".join(by_name.NEURONS))] = "pow2",
    schedule: Annotated[str, typer.Option(help="free or wait (then fire)")] = "free",
    coding: Annotated[str, typer.Option(help=", ".join(by_name.CODINGS))] = "analog",
    calibrator: Annotated[str, typer.Option(help="mse, max, percentile[=99.9]")] = "mse",
    rate_coded: Annotated[
        str | None,
        typer.Option(help="To compare, the classical way: layer=100, layer=99.9, channel=99.9"),
    ] = None,
    bias_correction: Annotated[bool, typer.Option(help="Correct mean errors.")] = True,
    task: options.TaskOption = None,
    input_range: options.RangeOption = None,
    input_bits: Annotated[int, typer.Option(help="Bits of the input grid.")] = 8,
    mean: options.MeanOption = None,
    std: options.StdOption = None,
    input_shape: options.ShapeOption = None,
    weights: options.WeightsOption = None,
    json_file: options.JsonOption = None,
    seed: options.SeedOption = 0,
    device: options.DeviceOption = "cpu",
) -> None:
    """Import, fold, calibrate, quantise, choose neurons, certify, save; print what came out."""
    settings = Quantisation(levels, weight_bits, by_name.calibrator(calibrator), bias_correction)
    chosen = (by_name.neuron(neuron), by_name.coding(coding), by_name.schedule(schedule))
    where = options.device(device)
    options.can_be_written(out, json_file, model, weights, data, calibration)
    found = options.load(model, input_shape, weights, mean, std)
    found, granted = options.declared(found, input_range)
    grid = Grid.over(found.entry.interval, input_bits)
    pair = sampling.split_data(data, calibration, seed, options.reader(task, found.entry))
    x = sampling.values(pair.calibration, found.entry)
    if rate_coded is None:
        result = convert_graph(
            found.graph, x, grid=grid, quantisation=settings,
            neuron=chosen[0], coding=chosen[1], schedule=chosen[2],
        )  # fmt: skip
    else:
        rates = by_name.rate_coding(rate_coded)
        result = convert_rate_coded(found.graph, x, grid=grid, rates=rates, neuron=chosen[0])
    measured = evaluated(result, pair.test, found.name, where)
    plain = mean is None and std is None and model.startswith("zoo:")  # evaluate finds it again
    notes = {"model": found.name, "source": model if plain else None}
    notes["calibration"] = pair.calibration.name
    save_network(out, result.network, result.notes(**notes))
    asked, diagnosis = task_for(result.float_graph, pair.calibration), None
    if (made := result.quantised) is not None:
        diagnosis = diagnose(result.float_graph, made, settings, asked, pair.calibration.y)
    said = warnings(measured, diagnosis, len(x), asked.classes)
    told = {"diagnosis": None if diagnosis is None else diagnosis.to_dict(), "warnings": said}
    options.write_json(json_file, measured.to_dict() | told)
    options.show(curve_table(measured))
    source = f"calibrated on {len(pair.calibration)} samples of {pair.calibration.name}"
    if pair.calibration.name == pair.test.name:
        source += f", tested on {len(pair.test)} others"
    options.say(source, *summary_lines(measured), *plain_certificate(result.certificate))
    options.say(*granted, f"saved {out}")
    options.warn(*said)
