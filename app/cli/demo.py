"""``spikemorph demo``: the main job on what comes with the installation."""

from pathlib import Path
from typing import Annotated

import typer

from spikemorph.graph.grid import Grid
from spikemorph.quant import Quantisation
from spikemorph.spiking import save_network

from .. import sampling
from ..conversion import convert_graph
from ..models import load_graph
from ..report import certificate_table, curve_table, plain_certificate, summary_lines
from . import options
from .options import out as console
from .running import evaluated

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
    pair = sampling.split_data(DATA, None, seed, options.read_data)
    ends = options.input_range(None, model.input_range)
    calibration = sampling.values(pair.calibration, ends, model.input_shape)
    result = convert_graph(
        model.graph, calibration, grid=Grid.of(*ends), quantisation=Quantisation()
    )
    measured = evaluated(result, pair.test, ends, model.name, where)
    options.made_folder(out)
    saved = out / f"{model.name}.safetensors"
    save_network(
        saved, result.network, result.notes(model=model.name, source=MODEL, input_range=list(ends))
    )
    options.write_json(out / "evaluation.json", measured.to_dict())
    options.write_json(json_file, measured.to_dict())
    console.print(certificate_table(result.certificate))
    options.say(*summary_lines(measured), f"saved {saved}")
    console.print(curve_table(measured))
    options.say(*plain_certificate(result.certificate))
