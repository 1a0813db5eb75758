"""What the ensemble of 19 gradient paths costs per image: a plain loop over paths, and `worst_case`.

    OMP_NUM_THREADS=1 python benchmarks/attack_cost.py --json attack_cost.json

The zoo's small digits network is made spiking and trained through time by fast adversarial training.
PGD of ten steps is then run through the paper's 19 paths, in both ways, at several eps: what a worst
case saves depends on how many samples survive. All forms of one eps are timed in one run, by turns,
in processor seconds of this process, so that other work on the machine weighs little.
"""

import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from spikemorph.robust import Draws, Target, Threat
from spikemorph.robust.attacks.pgd import Pgd
from spikemorph.robust.cascade.worst_case import worst_case
from spikemorph.robust.paths.through_time import paper_paths, spiking_target
from spikemorph.robust.training.objectives import FastAdversarial
from spikemorph.sources.models import load_graph
from spikemorph.surrogate import Dynamics, SpikingModule
from spikemorph.surrogate.to_trainable import to_trainable
from spikemorph.train import DataTensors, TrainSettings, fit
from spikemorph.zoo import load_data

MODEL, STEPS, PGD_STEPS, TRAINED_EPS = "digits_cnn", 4, 10, 0.1
EPS = (0.02, 0.05, 0.1, 0.2)


@dataclass(frozen=True)
class Form:
    """One way to evaluate, at one eps."""

    name: str
    eps: float
    milliseconds: float  # of the processor, for one image
    gradients: float  # input gradients taken, for one image
    robust: float  # per cent
    ratio: float  # what the plain loop costs, over what this costs


def hardened(data: DataTensors, epochs: int) -> SpikingModule:
    """A spiking digits network that has been trained on adversarial images."""
    graph = load_graph(f"zoo:{MODEL}").graph
    module = to_trainable(graph, Dynamics(STEPS), data.x[:256])
    objective = FastAdversarial(TRAINED_EPS, 1.25 * TRAINED_EPS)
    fit(module, data, TrainSettings(epochs, batch=64, rate=0.05), objective=objective)
    return module


def plain_loop(
    target: Target, attack: Pgd, x: Tensor, y: Tensor, draws: Draws
) -> tuple[float, float]:
    """Every path on every sample, one path at a time: per cent left, and gradients per image."""
    with torch.no_grad():
        left = target.logits(x).argmax(1) == y
    for path in target.paths:
        images = attack(path.logits, x, y, draws.fork(f"{attack.name}/{path.name}"))
        with torch.no_grad():
            left &= target.logits(images).argmax(1) == y
    return 100 * float(left.double().mean()), float(attack.steps * len(target.paths))


def engine(target: Target, attack: Pgd, x: Tensor, y: Tensor, draws: Draws) -> tuple[float, float]:
    """The same by the worst-case engine."""
    found = worst_case(target, [attack], x, y, draws, block=len(x))
    return found.accuracy, sum(member.gradients for member in found.members) / len(x)


Run = Callable[[], tuple[float, float]]


def compare(target: Target, x: Tensor, y: Tensor, eps: float, rounds: int) -> list[Form]:
    """All forms at one eps; the least time of each."""
    attack, draws = Pgd(Threat("linf", eps), PGD_STEPS), Draws.of(0, torch.arange(len(x)))
    alone, last = replace(target, mixed=None), replace(attack, last_iterate=True)
    runs: dict[str, Run] = {
        "plain loop over paths": lambda: plain_loop(target, attack, x, y, draws),
        "survivors only": lambda: engine(alone, last, x, y, draws),
        "and a broken sample stops": lambda: engine(alone, attack, x, y, draws),
        "and paths share batches": lambda: engine(target, attack, x, y, draws),
    }
    taken: dict[str, list[float]] = {name: [] for name in runs}
    found: dict[str, tuple[float, float]] = {}
    for _ in range(rounds):
        for name, run in runs.items():
            began = time.process_time()
            found[name] = run()
            taken[name].append(1000 * (time.process_time() - began) / len(x))
    base = min(taken["plain loop over paths"])
    return [
        Form(name, eps, min(taken[name]), found[name][1], found[name][0], base / min(taken[name]))
        for name in runs
    ]


def table(forms: list[Form], clean: float, samples: int) -> Table:
    """One row for each form and eps."""
    title = (
        f"{MODEL}, {STEPS} steps, clean {clean:.1f} %; PGD-{PGD_STEPS} through {len(paper_paths())} "
        f"paths, {samples} images, {torch.get_num_threads()} thread(s)"
    )
    out = Table("eps", "way", "ms per image", "gradients per image", "robust %", "ratio",
                title=title, title_justify="left")  # fmt: skip
    for form in forms:
        out.add_row(
            f"{form.eps:g}", form.name, f"{form.milliseconds:.1f}", f"{form.gradients:.1f}",
            f"{form.robust:.1f}", f"{form.ratio:.2f}x",
        )  # fmt: skip
    return out


def main(
    samples: Annotated[int, typer.Option(help="Test images.")] = 200,
    rounds: Annotated[int, typer.Option(help="Runs of each form; the fastest counts.")] = 2,
    epochs: Annotated[int, typer.Option(help="Of adversarial training.")] = 30,
    eps: Annotated[list[float] | None, typer.Option(help="May be repeated.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="File for the numbers.")] = None,
) -> None:
    """Compare the cost of the 19-path ensemble in four forms."""
    train, test = load_data("digits:train"), load_data("digits:test").take(samples)
    module = hardened(DataTensors(train.values(), train.y), epochs)
    target = spiking_target(MODEL, module, paper_paths())
    x, y = test.values(), test.y
    with torch.no_grad():
        clean = 100 * float((target.logits(x).argmax(1) == y).double().mean())
    forms = [form for one in eps or EPS for form in compare(target, x, y, one, rounds)]
    Console(width=110, highlight=False).print(table(forms, clean, len(x)))
    if json_file is not None:
        versions = {name: version(name) for name in ("spikemorph", "torch")}
        content = {"versions": versions | {"python": platform.python_version()}, "clean": clean}
        rows = [asdict(form) for form in forms]
        json_file.write_text(
            json.dumps(content | {"samples": len(x), "forms": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    typer.run(main)
