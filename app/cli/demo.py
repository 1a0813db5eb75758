"""``spikemorph demo``: the main job on what comes with the installation."""

from pathlib import Path
from typing import Annotated

import typer

from spikemorph.graph.grid import Grid
from spikemorph.quant import Quantisation
from spikemorph.spiking import save_network

from ..conversion import convert_graph
from ..evaluation import curve_steps, evaluate
from ..models import load_graph
from ..report import certificate_table, curve_table, plain_certificate, summary_lines
from . import choices, options
from .options import out as console

MODEL, DATA = "zoo:digits_cnn", "digits:test"


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for what it makes.")] = Path("demo"),
    json_file: options.JsonOption = None,
    seed: options.SeedOption = 0,
    device: options.DeviceOption = "cpu",
) -> None:
    """Convert a bundled network on bundled data, certify it, and show accuracy over time steps."""
    where = options.device(device)
    model = load_graph(MODEL)
    pair = options.split_data(DATA, None, seed)
    ends = options.input_range(None, model.input_range)
    calibration, test = (
        options.values(samples, ends, model.input_shape)
        for samples in (pair.calibration, pair.test)
    )
    result = convert_graph(
        model.graph, calibration, grid=Grid.of(*ends), quantisation=Quantisation()
    )
    steps = curve_steps(result.certificate)
    engine = choices.engine("auto", result.network, where, max(steps))
    with options.progress(len(test), "evaluating") as watch:
        measured = evaluate(
            result.network, engine, result.certificate, test, pair.test.y, steps=steps,
            names=(model.name, pair.test.name), float_graph=result.float_graph, watch=watch,
        )  # fmt: skip
    options.made_folder(out)
    saved = out / f"{model.name}.safetensors"
    save_network(
        saved, result.network, result.notes(model=model.name, source=MODEL, input_range=list(ends))
    )
    options.write_json(out / "evaluation.json", measured.to_dict())
    options.write_json(json_file, measured.to_dict())
    console.print(certificate_table(result.certificate))
    for line in summary_lines(measured):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(f"saved {saved}", highlight=False, markup=False, soft_wrap=True)
    console.print(curve_table(measured))
    for line in plain_certificate(result.certificate):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
