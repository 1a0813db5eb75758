"""Whether all commands read data alike: input ranges, bytes and floats, in rows; commands in columns."""

import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from spikemorph.cli import main as spikemorph
from spikemorph.conversion import convert_graph
from spikemorph.graph.grid import Grid, Interval
from spikemorph.quant import Quantisation
from spikemorph.sources.models import load_graph, normalised
from spikemorph.spiking import save_network
from spikemorph.zoo import load_data

RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (-2.1, 2.6))
MODEL, TRAIN, TEST = "zoo:digits_mlp", "digits:train:300", "digits:test"
COLUMNS = ("evaluate", "attack", "attack, eps 0", "compare", "synops, compare", "synops, energy",
           "certify: differing of")  # fmt: skip


def network(interval: Interval, path: Path) -> Path:
    """The model for inputs of another range, converted and saved by the library alone."""
    low, high = interval.ends
    graph = normalised(load_graph(MODEL).graph, (low,), (high - low,)).declare(interval)
    grid, shown = Grid.over(interval), load_data(TRAIN).values(interval)
    made = convert_graph(graph, shown, grid=grid, quantisation=Quantisation())
    save_network(path, made.network, made.notes())
    return path


def data(interval: Interval, kind: str, path: Path) -> Path:
    """The test samples as bytes, or as floats in the network's own units."""
    samples = load_data(TEST)
    x = samples.x if kind == "bytes" else samples.values(interval)
    assert samples.y is not None
    np.savez(path, x=x.numpy(), y=samples.y.numpy())
    return path


def said(folder: Path, *words: object) -> Any:
    """The JSON of a command."""
    out = folder / "found.json"
    sys.argv = ["spikemorph", *map(str, words), "--json", str(out)]
    with contextlib.redirect_stdout(io.StringIO()):
        status = spikemorph()
    assert status == 0, words
    return json.loads(out.read_text())


def row(interval: Interval, kind: str, folder: Path) -> list[str]:
    """What every command finds."""
    net = network(interval, folder / "network.safetensors")
    words = (net, "--data", data(interval, kind, folder / "test.npz"))
    count = ("--samples", len(load_data(TEST)))
    still = ("--eps", "0", "--attacks", "fgsm", "--gates", "0")
    seen = said(folder, "evaluate", *words)
    attacked = said(folder, "attack", *words, *count, *still)
    (side,) = said(folder, "compare", *words, *count)["networks"]
    counted = said(folder, "energy", *words, *count)["counts"]
    proof = said(folder, "certify", *words, "--out", folder / "proof.json")
    return [
        f"{seen['settled']['accuracy']:.4f}", f"{attacked['clean']['accuracy']:.4f}",
        f"{attacked['eps'][0]['worst_case']:.4f}", f"{side['accuracy']:.4f}",
        f"{side['synops']:.3f}", f"{counted['totals']['synops'] / counted['samples']:.3f}",
        f"{proof['mismatching_logits']} of {proof['n']} samples",
    ]  # fmt: skip


def main() -> None:
    """Print the table."""
    out = Table(title=f"{MODEL} on {TEST}, in other ranges")
    for column in ("range", "data", *COLUMNS):
        out.add_column(column)
    with tempfile.TemporaryDirectory() as scratch:
        for ends in RANGES:
            for kind in ("bytes", "floats"):
                interval = Interval.of(*ends)
                out.add_row(str(interval), kind, *row(interval, kind, Path(scratch)))
    Console(width=150, highlight=False).print(out)


if __name__ == "__main__":
    typer.run(main)
