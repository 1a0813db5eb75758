"""What channels-last weights save in a training step: `benchmarks/training_layout.py`.

A forward and backward pass of fashion_vgg on 64 images on one thread, weights laid out as they are
read and channels last, by turns (A B B A): in floats, under quantisation, and through four time
steps. Ratios of CPU time, medians and ranges.
"""

import sys
import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from spikemorph import load_graph
from spikemorph.convert import canonical
from spikemorph.graph.grid import Grid
from spikemorph.quant import Quantisation
from spikemorph.quant.learning import QuantisedModule
from spikemorph.surrogate.module import SpikingModule
from spikemorph.surrogate.neuron import Dynamics
from spikemorph.train import GraphModule
from spikemorph.train.layout import by_channel
from spikemorph.zoo import load_data

ROUNDS, BATCH = 6, 64


def step(module: nn.Module, x: Tensor, y: Tensor) -> float:
    """CPU seconds of one gradient of all weights."""
    began = time.process_time()
    module.zero_grad()
    cross_entropy(module(x).float(), y).backward()
    return time.process_time() - began


def ratios(before: Callable[[], float], after: Callable[[], float]) -> list[float]:
    """Before over after, once a round, by turns."""
    found = []
    for k in range(ROUNDS):
        pair = (before, after) if k % 2 == 0 else (after, before)
        first, second = (run() for run in pair)
        found.append(first / second if k % 2 == 0 else second / first)
    return found


def main() -> None:
    """Print a line for each kind of training."""
    torch.set_num_threads(1)
    graph = load_graph("zoo:fashion_vgg").graph
    x = load_data("fashion-mnist:sample").values()[:BATCH]
    y = torch.arange(BATCH) % 10
    modules: dict[str, nn.Module] = {
        "in floats": GraphModule(graph),
        "under quantisation": QuantisedModule(
            canonical(graph), x, Grid.of(0.0, 1.0), Quantisation()
        ),
        "through time": SpikingModule(graph, Dynamics(4)),
    }
    for name, module in modules.items():
        module.train()
        laid = deepcopy(module)
        by_channel(laid)
        before, after = partial(step, module, x, y), partial(step, laid, x, y)
        before(), after()
        found = ratios(before, after)
        sys.stdout.write(
            f"{name}: {median(found):.2f} times as fast ({min(found):.2f} to {max(found):.2f}, "
            f"{ROUNDS} rounds)\n"
        )


if __name__ == "__main__":
    main()
