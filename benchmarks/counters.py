"""Our synaptic operations beside those of public counters, on the recorded spikes of a pruned network.

    OMP_NUM_THREADS=1 python benchmarks/counters.py --json counters.json

Every weighted layer of a converted network becomes a torch layer with the same whole-number weights, and
is fed, step by step, with what reached it in a recorded run. All counters see the same layers and inputs.
"""

import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from replay import Fed, Replay
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import spikemorph
from spikemorph import convert_graph, load_graph
from spikemorph.conversion import convert_rate_coded
from spikemorph.convert import to_spiking
from spikemorph.energy import Counts, count
from spikemorph.graph import Graph, Input, Node
from spikemorph.graph.grid import Grid
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.ladder import Ladder
from spikemorph.layers.readout import Readout
from spikemorph.quant import Quantisation, RateCoding
from spikemorph.spiking import SpikingNetwork
from spikemorph.spiking.neurons import IF, STBIF
from spikemorph.zoo import load_data

MISSING: dict[str, str] = {}
INSTALL = {
    "neurobench": "pip install --no-deps neurobench==2.3.0 snntorch==1.0.0 tqdm",
    "spikingjelly": "pip install --no-deps spikingjelly==2.0.0 loguru tqdm",
    "sinabs": "pip install --no-deps sinabs==3.1.3 nir h5py nirtorch pbr tqdm && pip install matplotlib",
}
try:
    from neurobench.metrics.utils.layers import single_layer_MACs
    from neurobench.metrics.workload import SynapticOperations
    from neurobench.models import TorchModel
except ImportError as error:
    MISSING["neurobench"] = str(error)
try:
    from spikingjelly.activation_based.op_counter import DispatchCounterMode, SynOpCounter
except ImportError as error:
    MISSING["spikingjelly"] = str(error)
try:
    from sinabs import hooks as sinabs_hooks
except ImportError as error:
    MISSING["sinabs"] = str(error)

SPARSITY, RATE_STEPS = 0.9, 32
PRUNE = (
    "prune", "zoo:digits_cnn", "--method", "gradual", "--sparsity", f"{SPARSITY:g}",
    "--data", "digits:train", "--epochs", "20", "--shift", "1",
)  # fmt: skip
NOTES = """\
Totals over all images and steps; products with the analog image count at its layer.
NeuroBench: effective operations (its MACs and ACs together). SpikingJelly: SynOpCounter, which takes
only tensors of 0 and 1 for spikes. sinabs: its layer hooks, which multiply by the value of an event.
"ones": the same counter with every event that is not zero replaced by 1: its best case. Then both count
what we count through all weights, also those that are zero. "full kernels": events times all weights of
their channel, also where taps fall on padding, as counters by mean rates have it (a formula, not run)."""


class Refeed(nn.Module):
    """All layers as one torch model, for counters that hook a model: it feeds each its inputs."""

    def __init__(self, layers: tuple[Fed, ...]) -> None:
        super().__init__()
        self.inputs = [layer.inputs for layer in layers]
        self.layers = nn.ModuleList([layer.module for layer in layers])

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for module, inputs in zip(self.layers, self.inputs, strict=True):
            for one in inputs:
                out = module(one)
        return out


def by_neurobench(layer: Fed) -> int:
    """NeuroBench's effective operations of one layer."""
    return sum(int(single_layer_MACs(x, layer.module)[0]) for x in layer.inputs)


def by_neurobench_metric(layers: tuple[Fed, ...]) -> dict[str, int]:
    """NeuroBench's own metric, with its hooks, on all layers: totals over the samples."""
    samples = len(layers[0].inputs[0])
    model, x = TorchModel(Refeed(layers)), torch.zeros(samples, 1)
    model.register_hooks()
    found = SynapticOperations()(model, model(x), (x, None))
    return {name: round(float(mean) * samples) for name, mean in found.items()}


def by_spikingjelly(layer: Fed) -> int:
    """SpikingJelly's synaptic operations of one layer."""
    counter = SynOpCounter()
    with DispatchCounterMode([counter]):
        for x in layer.inputs:
            layer.module(x)
    return int(counter.get_total())


def by_sinabs(layer: Fed) -> int:
    """sinabs's synaptic operations of one layer; its hook gives the mean over a batch."""
    convolves = isinstance(layer.module, nn.Conv2d)
    hook = (
        sinabs_hooks.conv_layer_synops_hook if convolves else sinabs_hooks.linear_layer_synops_hook
    )
    handle, total = layer.module.register_forward_hook(hook), 0.0
    for x in layer.inputs:
        layer.module(x)
        total += float(layer.module.hook_data["layer_synops_per_timestep"]) * len(x)
    handle.remove()
    del layer.module.hook_data
    return round(total)


PEERS: Mapping[str, Callable[[Fed], int]] = {
    name: by
    for name, by in (
        ("neurobench", by_neurobench),
        ("spikingjelly", by_spikingjelly),
        ("sinabs", by_sinabs),
    )
    if name not in MISSING
}


@dataclass(frozen=True)
class Row:
    """One layer, all counters."""

    layer: str
    weights: int
    kept: int
    ours: int
    ours_all_weights: int
    full_kernels: int  # every event times all weights of its channel, on padding too
    dense: int  # products of one pass through all weights, times samples and steps
    peers: Mapping[str, int]
    peers_ones: Mapping[str, int]


@dataclass(frozen=True)
class Comparison:
    """One network on one set of samples, all counters."""

    network: str
    spikes: str
    samples: int
    steps: int
    rows: tuple[Row, ...]
    neurobench_metric: Mapping[str, int]

    def total(self, name: str) -> int:
        """The sum of one of our columns."""
        return sum(int(getattr(row, name)) for row in self.rows)

    def checks(self) -> Iterator[tuple[str, int, int]]:
        """What must be equal: what it is, ours, theirs."""
        for row in self.rows:
            if "neurobench" in row.peers:
                yield f"{row.layer}: NeuroBench", row.ours, row.peers["neurobench"]
            for name in sorted({"spikingjelly", "sinabs"} & set(row.peers_ones)):
                yield f"{row.layer}: {name}, ones", row.ours_all_weights, row.peers_ones[name]
        if self.neurobench_metric:
            found = self.neurobench_metric
            both = found["Effective_MACs"] + found["Effective_ACs"]
            yield "all layers: NeuroBench's metric, effective", self.total("ours"), both
            yield "all layers: NeuroBench's metric, dense", self.total("dense"), found["Dense"]


def channels(module: nn.Conv2d | nn.Linear) -> int:
    """Channels that a layer reads."""
    return module.in_channels if isinstance(module, nn.Conv2d) else module.in_features


@torch.no_grad()
def compare(name: str, spikes: str, network: SpikingNetwork, x: Tensor, steps: int) -> Comparison:
    """All counters on one network."""
    counts: Counts = count(network, x, steps)
    ours = {layer.node: layer for layer in counts.layers}
    layers = Replay(network, x, steps).fed()
    rows = []
    for layer in layers:
        own, ones = ours[layer.name], layer.ones()
        rows.append(Row(
            layer.name, own.weights, own.nonzero_weights, own.synops + own.analog_macs,
            own.synops_dense_weights + own.analog_macs_dense_weights,
            (own.spikes_in + own.analog_events) * own.weights // channels(layer.module),
            own.mac_dense * steps * counts.samples,
            {peer: by(layer) for peer, by in PEERS.items()},
            {peer: by(ones) for peer, by in PEERS.items()},
        ))  # fmt: skip
    metric = {} if "neurobench" in MISSING else by_neurobench_metric(layers)
    return Comparison(name, spikes, counts.samples, steps, tuple(rows), metric)


def single_convolution() -> Comparison:
    """One convolution, 4 to 8 channels, 3x3, 90 % pruned, reads one 8x8 map of which a quarter is 1."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        weight = nn.Conv2d(4, 8, 3, padding=1, bias=False).weight
        weight[torch.rand_like(weight) < 0.9] = 0
        x = (torch.rand(1, 4, 8, 8) < 0.25).float()
    padding = ((1, 1), (1, 1))
    nodes = (
        Node("x", Input((4, 8, 8), Grid(Fraction(1), 0, 1))),
        Node("same", Ladder(torch.tensor([[1]]), 0, 1, Fraction(1)), ("x",)),
        Node("conv", Convolution(weight.sign().long(), None, (1, 1), padding, (1, 1)), ("same",)),
        Node("end", Readout(torch.tensor([1]), Fraction(1)), ("conv",)),
    )
    network = to_spiking(Graph(nodes, ("x",), ("end",)), IF())
    return compare("one convolution, 4 to 8 channels", "0 and 1", network, x, 1)


def networks(graph: Graph) -> Iterator[tuple[str, str, SpikingNetwork, int]]:
    """The pruned float network converted in three ways: name, spikes, network, steps."""
    x, grid = load_data("digits:train").values(), Grid.of(0.0, 1.0)
    kinds: tuple[tuple[str, dict[str, Any]], ...] = (
        ("powers of two, both signs", {}),
        ("-1, 0 and 1", {"neuron": STBIF()}),
    )
    for spikes, options in kinds:
        made = convert_graph(graph, x, grid=grid, quantisation=Quantisation(), **options)
        steps = made.certificate.steps_required
        assert steps is not None
        yield next(iter(made.network.neuron.values())).name, spikes, made.network, steps
    rated = convert_rate_coded(graph, x, grid=grid, rates=RateCoding(), neuron=IF(capped=False))
    yield "if, rate-coded", "0 and 1", rated.network, RATE_STEPS


def pruned(path: Path | None) -> Graph:
    """The pruned network, from a file or made with the command in `PRUNE`."""
    if path is not None:
        return load_graph(str(path)).graph
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "pruned.safetensors"
        command = [sys.executable, "-m", "spikemorph", *PRUNE, "--out", str(made)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return load_graph(str(made)).graph


def table(found: Comparison) -> Table:
    """Layers as rows, counters as columns."""
    title = f"{found.network} (spikes: {found.spikes}), {found.samples} images, {found.steps} steps"
    heads = [f"{name}{kind}" for name in ("spikingjelly", "sinabs") if name in PEERS
             for kind in ("", ", ones")]  # fmt: skip
    out = Table(title=title, title_justify="left")
    names = ["neurobench"] * ("neurobench" in PEERS)
    for head in (
        "layer",
        "weights kept",
        "ours",
        *names,
        *heads,
        "ours, all weights",
        "full kernels",
    ):
        out.add_column(head, justify="left" if head == "layer" else "right")
    totals: list[int] = []
    for row in found.rows:
        shown = [row.ours, *(row.peers[name] for name in names)]
        for name in ("spikingjelly", "sinabs"):
            shown += [row.peers[name], row.peers_ones[name]] if name in PEERS else []
        shown += [row.ours_all_weights, row.full_kernels]
        totals = [a + b for a, b in zip(totals or [0] * len(shown), shown, strict=True)]
        kept = f"{row.kept:,} of {row.weights:,}"
        out.add_row(row.layer, kept, *(f"{number:,}" for number in shown))
    out.add_row("all", "", *(f"{number:,}" for number in totals))
    return out


def main(
    network: Annotated[Path | None, typer.Option(help="A pruned model of digits images.")] = None,
    images: Annotated[int, typer.Option(help="Of digits:test.")] = 360,
    json_file: Annotated[Path | None, typer.Option("--json", help="File for the numbers.")] = None,
) -> None:
    """Compare all counters that are installed; exit with 1 where what must be equal is not."""
    console = Console(width=160, highlight=False)
    for name, reason in MISSING.items():
        console.print(f"{name} is not compared ({reason}). Install it: {INSTALL[name]}")
    x = load_data("digits:test").take(images).values()
    found = [single_convolution()]
    found += [compare(*kind[:3], x, kind[3]) for kind in networks(pruned(network))]
    wrong = 0
    for one in found:
        console.print(table(one))
        checks = list(one.checks())
        odd = [f"{what}: {ours:,} is not {theirs:,}" for what, ours, theirs in checks
               if ours != theirs]  # fmt: skip
        wrong += len(odd)
        console.print(f"{len(checks) - len(odd)} of {len(checks)} equalities hold", *odd, sep="\n")
    console.print(NOTES)
    if json_file is not None:
        versions = {"spikemorph": spikemorph.__version__, "python": platform.python_version()}
        versions |= {name: version(name) for name in ("torch", *PEERS)}
        content = {"versions": versions, "missing": MISSING, "prune": " ".join(PRUNE)}
        content["comparisons"] = [asdict(one) for one in found]
        json_file.write_text(json.dumps(content, indent=1) + "\n")
    raise typer.Exit(code=min(1, wrong))


if __name__ == "__main__":
    typer.run(main)
