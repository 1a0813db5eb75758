"""Accuracy of pruned networks, float, integer and spiking: one row a method and sparsity, resumable.

    OMP_NUM_THREADS=1 python benchmarks/sparse_networks.py fashion_vgg --out runs/fashion_vgg

A row that stands in OUT is not made again; a pruning that was stopped goes on from its checkpoint.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from spikemorph import convert_graph, load_graph
from spikemorph.graph import Graph
from spikemorph.graph.grid import Grid
from spikemorph.graph.saving import write_bytes
from spikemorph.layers.integer_pass import IntegerPass
from spikemorph.layers.masks import sparsity as zeros_of
from spikemorph.measures.evaluation import float_answers, measure
from spikemorph.quant import Quantisation
from spikemorph.sources.sampling import drawn
from spikemorph.sources.tasks import task_for
from spikemorph.spiking import DenseEngine, save_network
from spikemorph.zoo import Samples, load_data

DATA = {
    "fashion_vgg": "fashion-mnist",
    "fashion_resnet": "fashion-mnist",
    "fashion_wide_resnet": "fashion-mnist",
    "cifar_vgg": "cifar10",
}
SHIFT = {"fashion-mnist": "2", "cifar10": "3"}
EPOCHS = {  # of training, by network and sparsity
    "fashion_vgg": {0.5: 1, 0.9: 2, 0.95: 2, 0.99: 4},
    "fashion_resnet": {0.5: 1, 0.9: 1, 0.95: 1, 0.99: 2},
    "fashion_wide_resnet": {0.5: 1, 0.9: 3, 0.95: 3, 0.99: 6},
    "cifar_vgg": {0.9: 1, 0.99: 1},
}
LONG = {  # of methods that raise the sparsity while they train, that are taught ("distilled": by
    # the dense network), that see images as they are ("plain") or mirrored only, or that go on
    ("fashion_vgg", "gradual-distilled", 0.9): 12,
    ("fashion_vgg", "gradual-distilled", 0.99): 16,
    ("fashion_vgg", "gradual-distilled-plain", 0.99): 16,
    ("fashion_vgg", "hydra-distilled", 0.99): 30,
    ("fashion_vgg", "continued", 0.99): 12,
    ("fashion_resnet", "gradual-distilled", 0.9): 4,
    ("fashion_resnet", "hydra-distilled", 0.99): 10,
    ("fashion_wide_resnet", "hydra-distilled", 0.99): 16,
    ("fashion_wide_resnet", "gradual-distilled", 0.9): 8,
    ("fashion_wide_resnet", "gradual-distilled-plain", 0.99): 10,
    ("cifar_vgg", "gradual", 0.99): 8,
    ("cifar_vgg", "gradual-distilled-mirrored", 0.99): 5,
    ("cifar_vgg", "hydra-distilled", 0.99): 16,
    ("cifar_vgg", "continued", 0.99): 8,
}
ALLOCATION = {
    "magnitude": "lamp",
    "gradual": "lamp",
    "hydra": "lamp",
    "rigl": "erk",
    "synflow": "global",
}
CONTINUED = "continued"  # one of those, trained on under its masks, taught as well
CONTINUES = "hydra-distilled"
PLAIN, MIRRORED = "-plain", "-mirrored"  # what is left can learn no more than that, in small steps
GRADUAL_FROM = 0.95  # below, one shot loses little
SPIKING = 1000  # test samples that the simulation runs; the other accuracies are of all of them


def settings(sparsity: float, epochs: int, precision: str) -> list[str]:
    """The options of one training: the sparser, the higher the rate and the weaker the penalties."""
    rate, decay, smoothing = ("0.1", "1e-4", "0") if sparsity >= 0.95 else ("0.05", "5e-4", "0.1")
    numbers = ["--epochs", str(epochs), "--rate", rate, "--decay", decay, "--smoothing", smoothing]
    return [*numbers, "--held-out", "5000", "--precision", precision]


def images(method: str, data: str) -> list[str]:
    """The options that vary images, and how many make a step, by the method's name."""
    if method.endswith(PLAIN):
        return ["--batch", "64"]
    if method.endswith(MIRRORED):
        return ["--flip", "--batch", "64"]
    return ["--shift", SHIFT[data], "--flip"]


def command(
    network: str, method: str, sparsity: float, epochs: int, path: Path, precision: str
) -> list[str]:
    """The command that prunes."""
    data, taught = DATA[network], "-distilled" in method or method == CONTINUED
    source, name = f"zoo:{network}", method.partition("-")[0]
    allocation = ALLOCATION.get(name, "lamp")
    if method == CONTINUED:
        source = str(path.with_name(path.name.replace(method, CONTINUES)))
        name, allocation = "magnitude", "global"
    return [
        "spikemorph", "prune", source, "--method", name, "--sparsity", f"{sparsity:g}",
        *(["--distil", "0.9", "--teacher", f"zoo:{network}"] if taught else []),
        "--allocation", allocation,
        "--data", f"{data}:train", *images(method, data),
        *settings(sparsity, epochs, precision), "--checkpoint", str(path.with_suffix(".checkpoint")),
        "--out", str(path), "--json", str(path.with_suffix(".prune.json")),
    ]  # fmt: skip


def converted(graph: Graph, train: Samples, test: Samples, out: Path) -> dict[str, Any]:
    """Convert with default settings, certify, measure."""
    calibration = drawn(train, seed=0).values()
    result = convert_graph(graph, calibration, grid=Grid.of(0.0, 1.0), quantisation=Quantisation())
    save_network(out, result.network, result.notes())
    x, steps = test.values(), result.certificate.steps_required
    assert steps is not None
    task, engine = task_for(result.network.graph, test), DenseEngine(result.network)
    spiking = measure(result.network, engine, x[:SPIKING], steps, task=task)
    integers = task.answers(IntegerPass(result.network.graph).outputs(x))
    y = None if test.y is None else test.y[:SPIKING]
    return {
        "float": task.share(float_answers(result.float_graph, x, task), test.y),
        "integer": task.share(integers, test.y),
        "level": result.certificate.level,
        "steps": steps,
        "spiking_n": len(x[:SPIKING]),
        "spiking": task.share(spiking.answers[-1], y),
        "mismatching_logits": spiking.mismatches(steps),
        "logits": spiking.counts * len(x[:SPIKING]),
        "spikes_per_inference": float(spiking.spikes.sum(0).double().mean()),
        "stored_bytes": out.stat().st_size,
    }


def row(
    network: str, method: str, sparsity: float, epochs: int, out: Path, precision: str
) -> dict[str, Any]:
    """One row, made or read."""
    stem = f"{method}-{100 * sparsity:g}"
    path, done = out / f"{stem}.safetensors", out / f"{stem}.json"
    if done.exists():
        return dict(json.loads(done.read_text()))
    line = command(network, method, sparsity, epochs, path, precision)
    began = time.perf_counter()
    if method == "dense":
        graph = load_graph(f"zoo:{network}").graph
    else:
        if not path.exists():
            subprocess.run([sys.executable, "-m", *line], check=True)
        graph = load_graph(str(path)).graph
    train, test = (load_data(f"{DATA[network]}:{part}") for part in ("train", "test"))
    pruned = path.with_suffix(".prune.json")
    held = json.loads(pruned.read_text())["validation_after"] if pruned.exists() else None
    found = {
        "network": network, "method": method, "sparsity": sparsity, "epochs": epochs,
        "zeros": zeros_of(graph), "held_out": held, "command": " ".join(line),
        **converted(graph, train, test, out / f"{stem}.net.safetensors"),
        "seconds": round(time.perf_counter() - began, 1),
    }  # fmt: skip
    write_bytes(done, (json.dumps(found, indent=2) + "\n").encode())
    return found


def main(
    network: Annotated[str, typer.Argument(help=", ".join(DATA))],
    out: Annotated[Path, typer.Option(help="Folder for all that is made.")],
    methods: Annotated[str, typer.Option()] = "magnitude,rigl,hydra,gradual",
    sparsities: Annotated[str, typer.Option(help="Default: all of the network.")] = "",
    precision: Annotated[
        str, typer.Option(help="32-true is faster where the processor does not multiply bf16.")
    ] = "bf16-mixed",
) -> None:
    """Make or read all rows of one network and print them as a table."""
    out.mkdir(parents=True, exist_ok=True)
    epochs = EPOCHS[network]
    wanted = [float(s) for s in sparsities.split(",") if s] or sorted(epochs, reverse=True)
    print(
        "| method | sparsity % | held out % | float % | integer % | spiking % | level | differing |"
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    chosen = [(m, s) for s in wanted for m in methods.split(",")]
    plan = [("dense", 0.0), *((m, s) for m, s in chosen if m != "gradual" or s >= GRADUAL_FROM)]
    for method, sparsity in plan:
        count = LONG.get((network, method, sparsity), epochs.get(sparsity, 0))
        show(row(network, method, sparsity, count, out, precision))


def show(found: dict[str, Any]) -> None:
    """One line of the table."""
    held = "" if found["held_out"] is None else f"{found['held_out']:.2f}"
    print(
        f"| {found['method']} | {100 * found['zeros']:.2f} | {held} | {found['float']:.2f} | "
        f"{found['integer']:.2f} | {found['spiking']:.2f} of {found['spiking_n']} | "
        f"{found['level']}, {found['steps']} steps | {found['mismatching_logits']} of "
        f"{found['logits']} |",
        flush=True,
    )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    typer.run(main)
