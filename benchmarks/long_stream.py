"""A stream of many elements: memory stays flat, every state is the integer network's, and it resumes.

    python benchmarks/long_stream.py NETWORK.safetensors --elements 100000

NETWORK is what ``convert`` saved of a model whose first layer is recurrent. Elements are a random walk
over the input range, made from a stated seed. In the middle the state is saved, and a new stream goes on
from the file. What every element gives is compared with the integer network's at it. Prints a line
of JSON after 1,000 elements, a quarter, a half and all of them.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from spikemorph.convert import load_certified
from spikemorph.convert.certificate import steps_of
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import integer_compute
from spikemorph.graph.sequences import advance, at_start
from spikemorph.graph.traits import Recurs
from spikemorph.spiking.streams import Stream, StreamState


def walk_of(grid: Grid, features: int, elements: int, seed: int) -> Iterator[Tensor]:
    """(1, feature) integers on the grid: at each element, three of ten move by a few points."""
    draw = torch.Generator().manual_seed(seed)
    now = torch.full((1, features), (grid.low + grid.high) // 2)
    span = max(1, (grid.high - grid.low) // 64)
    for _ in range(elements):
        moves = torch.rand(features, generator=draw) < 0.3
        step = torch.randint(-span, span + 1, (features,), generator=draw)
        now = (now + step * moves).clamp(grid.low, grid.high)
        now = grid.to_integers(grid.to_values(now))  # an end of the grid may lie beyond the range
        yield now


def resident() -> float:
    """MiB of memory that the process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", type=Path)
    parser.add_argument("--elements", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    network, certificate, _ = load_certified(given.network)
    (layer,) = network.graph.users(network.graph.inputs[0])
    assert isinstance(layer.op, Recurs)
    body, compute = layer.op.body, integer_compute(layer.op.body)
    stream = Stream(network, steps_of(certificate))
    points = walk_of(network.grid, network.entry.shape[1], given.elements, given.seed)
    state: StreamState = stream.start()
    wanted = at_start(body, torch.zeros((1, 1), dtype=torch.int64))
    memory, differ, spikes, began = dict[int, float](), 0, 0, time.process_time()
    for index, element in enumerate(points):
        if index == given.elements // 2:
            with tempfile.TemporaryDirectory() as folder:
                state.save(Path(folder) / "state.safetensors")
                stream = Stream(network, steps_of(certificate))
                state = stream.load(Path(folder) / "state.safetensors")
        pushed = stream.push(network.grid.to_values(element), state)
        state = pushed.state
        _, wanted = advance(body, {body.inputs[0]: element}, wanted, compute)
        held = state.parts[0].registers
        differ += sum(int((held[name] != value).sum()) for name, value in wanted.items())
        spikes += int(pushed.trace.spikes().sum())
        if index + 1 in (1000, given.elements // 4, given.elements // 2, given.elements):
            memory[index + 1] = round(resident(), 1)
            told = {
                "network": given.network.name,
                "elements": index + 1,
                "states that differ": differ,
                "spikes an element": round(spikes / (index + 1), 1),
                "numbers kept": state.numbers,
                "MiB held after elements": memory,
                "CPU seconds": round(time.process_time() - began),
            }
            print(json.dumps(told), flush=True)  # one that is stopped has told how far it came


if __name__ == "__main__":
    main()
