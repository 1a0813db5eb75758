"""What removing channels saves: size and time of networks with masked channels and without them."""

import json
import math
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from spikemorph.conversion import convert_graph
from spikemorph.graph import Graph, run
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import run_integers, shapes
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.masks import weight_of, weighted_nodes
from spikemorph.prune.channel_choice import FilterNorm, channel_scores, choose_channels
from spikemorph.prune.channel_groups import couple_channels
from spikemorph.prune.channels import mask_channels, remove_channels
from spikemorph.quant import Quantisation
from spikemorph.sources.models import load_graph
from spikemorph.spiking import DenseEngine, SpikingNetwork
from spikemorph.zoo import load_data

SAMPLES, ROUNDS = 64, 15
MODELS = ("fashion_resnet", "fashion_vgg")
DATA = "fashion-mnist:sample"


@dataclass(frozen=True)
class Form:
    """One form of a network: its size, and the least time of one batch."""

    name: str
    weights: int
    nonzero: int
    macs: int  # multiply-accumulates of one image, dense
    float_ms: float
    spiking_ms: float
    certificate: str
    differing: int  # spiking logits that are not the integer network's


@dataclass(frozen=True)
class Comparison:
    """The three forms of one network, and how far removed and masked outputs lie apart."""

    model: str
    channels: int
    removed: int
    largest_difference: float  # of float logits, relative to the largest
    forms: tuple[Form, ...]


def macs(graph: Graph) -> int:
    """Multiply-accumulates of one sample: weights, each as often as its output has positions."""
    sizes = shapes(graph)
    count = 0
    for node in weighted_nodes(graph):
        size = sizes[node.name]
        positions = size[1:] if isinstance(node.op, Convolution) else size[:-1]
        count += weight_of(node).numel() * math.prod(positions)
    return count


def timed(runs: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """The least milliseconds of every run, after one to warm up; runs alternate: A B C A B C ...

    The least, because whatever else the machine does can only add to it.
    """
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(1 + ROUNDS):
        for name, call in runs.items():
            began = time.perf_counter()
            call()
            if round_:
                taken[name].append(1000 * (time.perf_counter() - began))
    return {name: min(times) for name, times in taken.items()}


def spiking(graph: Graph, calibration: Tensor) -> tuple[SpikingNetwork, str, int]:
    """The network's spiking form, its certificate's level, and its steps."""
    made = convert_graph(graph, calibration, grid=Grid.of(0.0, 1.0), quantisation=Quantisation())
    steps = made.certificate.steps_required
    if steps is None:
        raise SystemExit(f"no certificate: {made.certificate.refusals}")
    return made.network, str(made.certificate.level), steps


@torch.no_grad()
def compare(model: str, share: float) -> Comparison:
    """Remove a share of every layer's channels, those with the smallest filters (L1), and measure.

    Nothing is trained afterwards: accuracy is not the subject here. Images after the timed ones
    calibrate.
    """
    graph = load_graph(f"zoo:{model}").graph
    coupling = couple_channels(graph)
    removed = choose_channels(coupling, channel_scores(coupling, FilterNorm()), share)
    images = load_data(DATA).values()
    x, calibration = images[:SAMPLES], images[SAMPLES : SAMPLES + 256]
    forms = {
        "dense": graph,
        "masked": mask_channels(graph, removed),
        "removed": remove_channels(graph, removed),
    }
    masked, small = (run(forms[name], x) for name in ("masked", "removed"))
    networks = {name: spiking(form, calibration) for name, form in forms.items()}
    engines = {
        name: (DenseEngine(network), steps) for name, (network, _, steps) in networks.items()
    }
    floats = timed({name: partial(run, form, x) for name, form in forms.items()})
    spikes = timed({n: partial(engine.run, x, steps) for n, (engine, steps) in engines.items()})
    rows = []
    for name, form in forms.items():
        network, level, _ = networks[name]
        engine, steps = engines[name]
        wanted = run_integers(network.graph, network.grid.to_integers(x))
        weights = [weight_of(node) for node in weighted_nodes(form)]
        count, nonzero = (sum(f(w) for w in weights) for f in (torch.numel, torch.count_nonzero))
        rows.append(Form(
            name, int(count), int(nonzero), macs(form), floats[name], spikes[name], level,
            int((engine.run(x, steps).outputs[-1] != wanted).sum()),
        ))  # fmt: skip
    return Comparison(
        model,
        sum(group.size for group in coupling.groups if group.pinned is None),
        sum(len(channels) for channels in removed.values()),
        float((masked - small).abs().max() / masked.abs().max()),
        tuple(rows),
    )


def table(found: Comparison) -> Table:
    """The forms as rows; ratios are to the masked form."""
    gone = f"{found.removed} of {found.channels} channels removed"
    title = f"{found.model}: {gone}; {SAMPLES} images, {torch.get_num_threads()} thread(s)"
    out = Table(
        "form", "weights", "not zero", "MACs", "float ms", "spiking ms", "certificate",
        "logits off", title=title, title_justify="left",
    )  # fmt: skip
    for form in found.forms:
        out.add_row(
            form.name, f"{form.weights:,}", f"{form.nonzero:,}", f"{form.macs:,}",
            f"{form.float_ms:.1f}", f"{form.spiking_ms:.1f}", form.certificate,
            str(form.differing),
        )  # fmt: skip
    _, masked, small = found.forms
    ratios = (masked.weights / small.weights, masked.nonzero / small.nonzero,
              masked.macs / small.macs, masked.float_ms / small.float_ms,
              masked.spiking_ms / small.spiking_ms)  # fmt: skip
    out.add_row("masked / removed", *(f"{ratio:.2f}x" for ratio in ratios), "", "")
    return out


def main(
    share: Annotated[float, typer.Option(help="Of every layer's channels, 0 to below 1.")] = 0.5,
    json_file: Annotated[Path | None, typer.Option("--json", help="File for the numbers.")] = None,
) -> None:
    """Compare the masked and the smaller form of two networks of the zoo."""
    console = Console(width=110, highlight=False)
    found = [compare(model, share) for model in MODELS]
    for one in found:
        console.print(table(one))
        console.print(
            f"float logits of masked and removed differ by {one.largest_difference:.1e} at most, "
            "relative to the largest\n"
        )
    if json_file is not None:
        versions = {name: version(name) for name in ("spikemorph", "torch")}
        content = {"versions": versions | {"python": platform.python_version()}, "share": share}
        content["models"] = [asdict(one) for one in found]
        json_file.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
