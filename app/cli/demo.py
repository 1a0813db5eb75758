"""``spikemorph demo``: the main job on what comes with the installation; a sparse network, attacked."""

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from spikemorph.convert import load_certified
from spikemorph.graph.errors import Repair
from spikemorph.graph.saving import made_folder

from ..choices.settings import ConvertChoice
from ..front.snn import SNN
from ..recipes.pipeline import ROBUST, run_recipe
from ..recipes.recipe import recipe_of
from ..report import certificate_table, curve_table, plain_certificate, summary_lines
from ..report.costs import comparison_table
from ..report.robust import robust_networks_table
from ..sources import sampling
from ..sources.models import load_graph
from . import options, output
from .running import evaluated

MODEL, DATA = "zoo:digits_cnn", "digits:test"
RECIPE = {
    "name": "demo",
    "model": MODEL,
    "data": {"train": "digits:train", "test": DATA},
    "training": {
        "epochs": 60, "rate": 0.1, "decay": 1e-4, "smoothing": 0.0, "shift": 1, "held_out": 200
    },
    "attack": {
        "eps": ["8/255", "16/255", "32/255"],
        "attacks": "pgd-margin=20,apgd-dlr=20,square=100,refine=300",
        "ann": "apgd-ce=20,refine=300", "patience": "10,100", "samples": 100, "gate_samples": 0,
    },
    "network": [
        {"name": "dense"},
        {"name": "sparse", "method": "gradual", "sparsity": 0.9},
    ],
}  # fmt: skip


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for what it makes.")] = Path("demo"),
    json_file: output.JsonOption = None,
    quiet: output.QuietOption = False,
    seed: options.SeedOption = 0,
    device: options.DeviceOption = "cpu",
) -> None:
    """Convert a bundled network, certify it, show accuracy over time; prune it; write the report."""
    where = options.device(device)
    model = load_graph(MODEL)
    pair = sampling.split_data(DATA, None, seed, options.read_data)
    snn = SNN.of(model, pair.calibration, ConvertChoice(), seed, source=MODEL)
    measured = evaluated(snn, pair.test, where)
    made_folder(out, Repair("out", words="choose another {}"))
    saved = out / f"{model.name}.safetensors"
    snn.save(saved)
    output.write_json(out / "evaluation.json", measured.to_dict())
    output.write_json(json_file, measured.to_dict())
    output.show(certificate_table(snn.certificate))
    output.say(*summary_lines(measured), f"saved {saved}")
    output.show(curve_table(measured))
    output.say(*plain_certificate(snn.certificate), "")
    _sparse(out, seed)


def _sparse(out: Path, seed: int) -> None:
    """Prune the same network to a tenth of its weights, and report on it."""
    recipe = recipe_of({**RECIPE, "seed": seed}, "the demo's recipe")
    output.say("now with a tenth of the weights, trained for a few seconds:")
    words = ["spikemorph", "demo", "--out", str(out), *(["--seed", str(seed)] if seed else [])]
    result = run_recipe(recipe, out, shlex.join(words), read=options.read_data)
    _, certificate, _ = load_certified(out / "sparse" / "network.safetensors")
    output.show(comparison_table(result))
    output.show(robust_networks_table(json.loads((out / ROBUST).read_text())))
    band = json.loads((out / "sparse" / "energy.json").read_text())["band"]
    output.say(
        *plain_certificate(certificate)[:2],
        "Energy of the sparse SNN against the quantised ANN with the same mask, skipping zeros: "
        f"{band['verdict']} ({band['min']:.2f}x to {band['max']:.2f}x).",
        f"both networks: {out / 'index.html'}",
        f"report: {out / 'sparse' / 'report.html'}",
    )
