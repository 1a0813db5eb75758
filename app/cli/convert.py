"""``spikemorph convert``: a model in, a certified spiking network out."""

from pathlib import Path
from typing import Annotated

import typer

from ..choices import by_name
from ..choices.settings import ConvertChoice
from ..conversion import conversion_settings
from ..front.snn import SNN
from ..measures.diagnosis import diagnose, of_robustness, warnings
from ..report import curve_table, plain_certificate, summary_lines
from ..sources import sampling
from ..sources.tasks import task_for
from . import options, output
from .running import evaluated
from .wording import worded

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
    carry: Annotated[
        str, typer.Option(help="Between elements of a sequence: reset, or delta (send changes).")
    ] = "reset",
    state_levels: Annotated[
        int, typer.Option(help="Values of a state that changes by sums: LSTM's cell, GRU's state.")
    ] = 2**14,
    calibrator: Annotated[
        str, typer.Option(help="mse, max, percentile or percentile=99.9")
    ] = "mse",
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
    json_file: output.JsonOption = None,
    csv_file: output.CsvOption = None,
    quiet: output.QuietOption = False,
    seed: options.SeedOption = 0,
    device: options.DeviceOption = "cpu",
) -> None:
    """Import, fold, calibrate, quantise, choose neurons, certify, save; print what came out."""
    how = ConvertChoice(
        levels, weight_bits, neuron, schedule, coding, calibrator, input_bits, bias_correction,
        carry, state_levels,
    )  # fmt: skip
    settings, where = conversion_settings(how)["quantisation"], options.device(device)
    options.can_be_written(out, json_file, model, weights, data, calibration, csv_file=csv_file)
    found = options.load(model, input_shape, weights, mean, std)
    found, granted = options.declared(found, input_range)
    pair = sampling.split_data(data, calibration, seed, options.reader(task, found.entry))
    plain = mean is None and std is None and model.startswith("zoo:")  # evaluate finds it again
    snn = SNN.of(
        found, pair.calibration, how, seed, source=model if plain else None, rate_coded=rate_coded
    )
    measured = evaluated(snn, pair.test, where)
    snn.save(out)
    made, shown = snn.made, pair.calibration
    assert made is not None
    asked, diagnosis = task_for(made.float_graph, shown), None
    if made.quantised is not None:
        diagnosis = diagnose(made.float_graph, made.quantised, settings, asked, shown.y)
    said = [worded(w) for w in warnings(measured, diagnosis, len(shown), asked.classes)]
    told = {"diagnosis": None if diagnosis is None else diagnosis.to_dict(), "warnings": said}
    output.write_json(json_file, measured.to_dict() | told)
    output.write_csv(csv_file, measured.to_dict()["curve"])
    output.show(curve_table(measured))
    source = f"calibrated on {len(shown)} samples of {shown.name}"
    if shown.name == pair.test.name:
        source += f", tested on {len(pair.test)} others"
    output.say(source, *summary_lines(measured), *plain_certificate(snn.certificate))
    grid = snn.network.graph.entry.grid
    notes = [] if grid is None else [worded(note) for note in of_robustness(grid)]
    output.say(*granted, *notes, f"saved {out}")
    output.warn(*said)
