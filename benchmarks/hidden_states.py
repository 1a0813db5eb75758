"""Count integers that differ between a recurrent spiking network and its quantised one.

Every neuron layer, every element of every sequence, both schedules, from spikes alone: what a neuron has
sent since it was at rest is compared with the level that the integer network has there. Then the same
with one inner step fewer, which must differ somewhere for the bound to be worth its name.

    python benchmarks/hidden_states.py NETWORK.safetensors mnist-rows:test:500 --engines dense,reference

NETWORK is what ``convert`` saved of a recurrent model. Prints one line of JSON for each run.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikemorph.convert import certify, load_certified
from spikemorph.graph import Node
from spikemorph.graph.batches import batch_size
from spikemorph.graph.interpret import integer_compute
from spikemorph.layers.integer_pass import IntegerPass
from spikemorph.layers.ladder import Ladder
from spikemorph.sources.sampling import ends, fitting
from spikemorph.sources.tasks import task_for
from spikemorph.spiking import SpikingNetwork
from spikemorph.spiking.engines import engine_for
from spikemorph.spiking.network import Carry
from spikemorph.spiking.segmented import SegmentedEngine
from spikemorph.spiking.sequences import Runner
from spikemorph.zoo import load_data


def wanted_levels(
    part: Runner, values: dict[str, Tensor], lengths: Tensor | None
) -> Iterator[dict[str, Tensor]]:
    """The levels of all ladders of a body, element by element as it runs, by the integer network."""
    op = part.op
    assert op is not None
    compute = integer_compute(op.body)
    levels: dict[str, Tensor] = {}
    collected: list[dict[str, Tensor]] = []

    def noting(node: Node, *inputs: Tensor) -> Tensor:
        made = compute(node, *inputs)
        if isinstance(node.op, Ladder):
            levels[node.name] = made
        if node.name == last:
            collected.append(dict(levels))
        return made

    last = [node.name for node in op.body.nodes if isinstance(node.op, Ladder)][-1]
    pairs = zip(op.body.inputs, part.part.reads, strict=True)
    op.computed(noting, *(values[source] for _, source in pairs), lengths=lengths)
    yield from collected


def compare(
    network: SpikingNetwork, engine: SegmentedEngine, x: Tensor, lengths: Tensor | None, steps: int
) -> dict[str, int]:
    """How many integers were compared, and how many differ, in states and in outputs."""
    integers = {
        node.name: made.to(torch.int64)
        for node, made in IntegerPass(network.graph).edges(x, lengths)
    }
    found = {"compared": 0, "differ": 0}

    def tally(one: Tensor, other: Tensor, there: Tensor) -> None:
        found["compared"] += int(there.sum()) * one[0].numel()
        found["differ"] += int((one != other).flatten(1).sum(1)[there].sum())

    everyone = torch.ones(len(x), dtype=torch.bool)
    values = {network.graph.inputs[0]: network.grid.to_integers(x)}
    for part in engine.parts:
        if part.op is None:
            reads = {name: values[name] for name in part.part.reads}
            _, made = part.element(part.start(len(x)), reads, steps)
            values.update(made.given)
            for name, value in made.given.items():
                tally(value.flatten(1), integers[name].flatten(1), everyone)
            continue
        _along(part, values, integers, lengths, steps, tally)
    return found


def _along(
    part: Runner,
    values: dict[str, Tensor],
    integers: dict[str, Tensor],
    lengths: Tensor | None,
    steps: int,
    tally: Any,
) -> None:
    op = part.op
    assert op is not None and part.part.node is not None
    elements = wanted_levels(part, {name: integers[name] for name in part.part.reads}, lengths)
    sent: dict[str, Tensor] = {}
    carries = part.part.network.carry is Carry.DELTA
    size = values[part.part.reads[0]].shape[op.axis]
    counter = iter(range(size)[:: -1 if op.reverse else 1])

    def watch(step: Any) -> None:
        levels, index = next(elements), next(counter)
        there = (
            torch.ones(step.active.shape[1], dtype=torch.bool)
            if lengths is None
            else index < lengths
        )
        for name, train in step.spikes.items():
            total = train.sum(0).to("cpu", torch.int64)
            sent[name] = sent[name] + total if carries and name in sent else total
            tally(sent[name].flatten(1), levels[name].flatten(1), there)

    _, made = part.along(
        part.start(len(next(iter(values.values())))),
        values,
        steps,
        lengths,
        record=True,
        watch=watch,
    )
    values[part.part.node.name] = made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", type=Path)
    parser.add_argument("data")
    parser.add_argument("--engines", default="dense")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--fewer", action="store_true", help="one inner step fewer, too")
    parser.add_argument("--integers", action="store_true", help="the settled pass alone")
    given = parser.parse_args()
    saved, _, _ = load_certified(given.network)
    samples = load_data(given.data)
    x, long = fitting(samples, saved.graph, mixed=True), ends(samples)
    if given.integers:
        task = task_for(saved.graph, samples)
        answers = task.answers(IntegerPass(saved.graph).outputs(x, long))
        right = task.share(answers, samples.labels)
        print(
            json.dumps(
                {"network": given.network.name, "data": given.data, "n": len(x), "right": right}
            )
        )
        return
    for carry in Carry:
        network = replace(saved, carry=carry)
        steps = certify(network).steps_required
        assert steps is not None
        for name in given.engines.split(","):
            for used in (steps, steps - 1) if given.fewer else (steps,):
                engine = engine_for(network, most_steps=used, name=name)
                assert isinstance(engine, SegmentedEngine)
                size = given.batch or batch_size(network.graph)
                ranges = range(0, len(x), size)
                total = {"compared": 0, "differ": 0}
                for start in ranges:
                    part = slice(start, start + size)
                    ended = None if long is None else long[part]
                    for key, count in compare(network, engine, x[part], ended, used).items():
                        total[key] += count
                said = {"network": given.network.name, "data": given.data, "n": len(x)}
                said |= {
                    "carry": carry.name.lower(),
                    "engine": name,
                    "steps": used,
                    "required": steps,
                }
                print(json.dumps(said | total), flush=True)


if __name__ == "__main__":
    main()
