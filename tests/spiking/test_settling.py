"""Settling: the proven bound holds, it binds, and a silent step is silence for ever."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from math import ceil
from typing import Any

import pytest
import torch
from torch import Tensor

from spikemorph.convert import certify, to_spiking
from spikemorph.graph import Graph
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import run_integers
from spikemorph.layers.ladder import climb
from spikemorph.layers.linear import Linear
from spikemorph.layers.readout import Readout
from spikemorph.spiking import DenseEngine, Neuron, ReferenceEngine, Schedule, SpikingNetwork
from spikemorph.spiking.coding import BitPlane, Repeated, Thermometer
from spikemorph.spiking.neurons import BIF, IF, SNM, STBIF, burst, few_spikes, group, pow2
from spikemorph.spiking.settling import settling

Build = Callable[..., Any]
SETTLES = [STBIF(), group(2), group(5), group(15), pow2()]
names = pytest.mark.parametrize("neuron", SETTLES, ids=lambda n: f"{n.name}-{n.up}")


def steps_from(neuron: Neuron, residual: int) -> int:
    """How many steps a residual takes to vanish, by sending the spikes."""
    steps = 0
    while residual:
        residual -= neuron.spike(residual)
        steps += 1
    return steps


@names
@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 7), (-15, 15), (-40, 11), (-3, 63)])
def test_the_count_of_steps_is_the_worst_case(neuron: Neuron, low: int, high: int) -> None:
    """Lemma 4: the claim is the maximum over all residuals, neither more nor less."""
    worst = max(steps_from(neuron, residual) for residual in range(low, high + 1))
    assert neuron.settles_in(low, high) == worst


@pytest.mark.parametrize("bits", range(1, 13))
def test_powers_of_two_need_half_as_many_steps_as_there_are_bits(bits: int) -> None:
    """Lemma 7: at most ``ceil((n + 1) / 2)`` steps for n bits, and no fewer will do."""
    top = 2**bits - 1
    assert pow2().settles_in(-top, top) == ceil((bits + 1) / 2)


@pytest.mark.parametrize("span", [1, 3, 7, 11, 15, 22, 24, 63, 100, 255])
def test_overshoot_bounds_the_tracer(span: int) -> None:
    """From any tracer within the claim towards any level, no power of two leads out of the claim."""
    over = pow2().overshoot(span)
    assert 2 * over <= span  # a size is overshot by less than a third of itself
    for tracer in range(-over, span + over + 1):
        for level in range(span + 1):
            after = tracer + pow2().spike(level - tracer)
            assert -over <= after <= span + over


def jumping(chain: Build, even_ladder: Build, top: int, last: int, depth: int) -> Graph:
    """A chain in which every neuron jumps to its top when the one before sends its last spike.

    ``C = 16 (S - last)``, so the level is 0 until the tracer before passes `last`, and `top` after.
    """
    steps: list[Any] = [Linear(torch.tensor([[1]]), None), even_ladder(1, 1, 0, 0, top)]
    for _ in range(depth - 1):
        steps += [Linear(torch.tensor([[16]]), torch.tensor([-16 * last])), steps[1]]
    readout = Readout(torch.ones(1, dtype=torch.int64), Fraction(1))
    return chain((1,), *steps, readout, grid=Grid(Fraction(1), 0, 16))


@pytest.mark.parametrize("schedule", Schedule)
@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize(
    ("neuron", "top", "last", "takes"),
    [
        pytest.param(STBIF(), 7, 6, 7, id="st-bif"),  # 1, 2, .. 6, then 7 at the 7th step
        pytest.param(group(2), 7, 6, 4, id="group-2"),  # 2, 4, 6, then 7
        pytest.param(pow2(), 11, 10, 3, id="pow2"),  # 8, 10, then 11
    ],
)
def test_the_bound_binds(
    neuron: Neuron, top: int, last: int, takes: int, depth: int, schedule: Schedule,
    chain: Build, even_ladder: Build, in_both: Build,
) -> None:  # fmt: skip
    """Exact at ``T_in + sum(n_l - 1)`` steps, wrong one step earlier: no smaller bound holds."""
    graph = jumping(chain, even_ladder, top, last, depth)
    network = to_spiking(graph, neuron, schedule=schedule)
    required = certify(network).steps_required
    assert required == 1 + depth * (takes - 1)
    x = torch.full((1, 1), float(top))
    wanted = run_integers(graph, x.long())
    assert wanted.item() == top
    outputs = in_both(network, x, required).outputs
    assert torch.equal(outputs[required - 1], wanted)
    assert not torch.equal(outputs[required - 2], wanted)


def test_the_bound_counts_the_steps_of_the_coding(chain: Build, even_ladder: Build) -> None:
    """An input that trickles in for 5 steps delays the whole chain by 4."""
    graph = jumping(chain, even_ladder, 7, 6, 2)
    once, spread = to_spiking(graph, STBIF()), to_spiking(graph, STBIF(), Repeated(5))
    assert certify(once).steps_required == 13
    assert certify(spread).steps_required == 17


def deep(chain: Build, even_ladder: Build, seed: int) -> tuple[Graph, Tensor]:
    """Four random layers of 8 neurons, unsigned and signed, and 16 inputs."""
    generator = torch.Generator().manual_seed(seed)
    steps: list[Any] = []
    for layer in range(4):
        weight = torch.randint(-7, 8, (8, 8), generator=generator)
        bias = torch.randint(-20, 21, (8,), generator=generator)
        ladder = even_ladder(23, 1, 11, 0, 15) if layer % 2 else even_ladder(23, 1, 11, -7, 7)
        steps += [Linear(weight, bias), ladder]
    readout = Readout(torch.ones(1, dtype=torch.int64), Fraction(1))
    x = torch.randint(-15, 16, (16, 8), generator=generator).float()
    return chain((8,), *steps, readout, grid=Grid(Fraction(1), -15, 15)), x


ALL = [IF(), IF(capped=False), SNM(), BIF(), burst(3), few_spikes(), *SETTLES]
each = pytest.mark.parametrize("neuron", ALL, ids=lambda n: f"{n.name}-{n.up}-{n.capped}")


@each
@pytest.mark.parametrize("schedule", Schedule)
def test_nothing_happens_after_a_silent_step(
    neuron: Neuron, schedule: Schedule, chain: Build, even_ladder: Build
) -> None:
    """Theorem 3, neurons that are not exact too: run on for three times the bound, in the reference."""
    graph, x = deep(chain, even_ladder, seed=3)
    network = to_spiking(graph, neuron, coding=Thermometer(4), schedule=schedule)
    bound = certify(network).steps_required or 60
    trace = ReferenceEngine(network).run(x, 4 * bound)
    assert bool((trace.settled > 0).all())
    steps = torch.arange(1, trace.steps + 1)[:, None]
    late = steps > trace.settled
    assert not bool(trace.spikes()[late].any())
    final = trace.outputs[-1].expand_as(trace.outputs)
    assert torch.equal(trace.outputs[late], final[late])
    active = trace.spikes().gather(0, trace.settled[None] - 1)
    inputs_or_gates = max(4, *(known.gate - 1 for known in settling(network).values()))
    assert bool(((active > 0) | (trace.settled <= inputs_or_gates + 4)).all())


@each
@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_stopping_early_and_cutting_time_change_nothing(
    neuron: Neuron, chunk: int, chain: Build, even_ladder: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dense engine in its own chunks, and in chunks of `chunk`, to the last step."""
    graph, x = deep(chain, even_ladder, seed=4)
    network = to_spiking(graph, neuron, coding=BitPlane())
    wanted = DenseEngine(network).run(x, 64, record=True)
    monkeypatch.setattr(DenseEngine, "stride", chunk)
    monkeypatch.setattr(DenseEngine, "stops", False)
    found = DenseEngine(network).run(x, 64, record=True)
    assert torch.equal(found.outputs, wanted.outputs)
    assert torch.equal(found.settled, wanted.settled)
    for name, train in wanted.trains.items():
        assert torch.equal(found.trains[name], train)
        assert torch.equal(found.positive[name], wanted.positive[name])
        assert torch.equal(found.negative[name], wanted.negative[name])


def test_waiting_neurons_send_the_fewest_spikes_and_none_too_early(
    chain: Build, even_ladder: Build, in_both: Build
) -> None:
    """Theorem 4: IF sends ``F`` unit spikes from its gate on, in one run without holes, no more."""
    graph, x = deep(chain, even_ladder, seed=5)
    ladders = {node.name for node in graph.nodes if node.name in ("n1", "n3", "n5", "n7")}
    unsigned = graph.map(
        lambda n: replace(n, op=even_ladder(23, 1, 11, 0, 15)) if n.name in ladders else n
    )
    network = to_spiking(unsigned, IF(), schedule=Schedule.WAIT)
    steps = certify(network).steps_required
    assert steps == 1 + 4 * 14
    trace = in_both(network, x, steps)
    for name, known in settling(network).items():
        train = trace.trains[name]
        level = train.sum(0)
        steps_open = torch.arange(1, steps + 1)[:, None, None] - known.gate
        assert torch.equal(train, ((steps_open >= 0) & (steps_open < level)).long())


def test_a_silent_step_needs_the_whole_sample_and_no_other(
    chain: Build, even_ladder: Build
) -> None:
    """Samples settle one by one: alone or in a batch, each at the same step."""
    graph, x = deep(chain, even_ladder, seed=6)
    network = to_spiking(graph, STBIF())
    together = DenseEngine(network).run(x, 80).settled
    alone = [int(DenseEngine(network).run(row[None], 80).settled) for row in x]
    assert together.tolist() == alone
    assert len(set(alone)) > 1


@pytest.mark.parametrize("neuron", [STBIF(), pow2()], ids=lambda n: n.name)
def test_every_input_has_settled_at_the_bound(
    neuron: Neuron, chain: Build, even_ladder: Build
) -> None:
    """All 8 ** 3 inputs of a small signed network, every coding."""
    generator = torch.Generator().manual_seed(7)
    weights = torch.randint(-5, 6, (3, 3, 3), generator=generator)
    ladder = even_ladder(9, 2, 4, -3, 4)
    steps = [op for weight in weights for op in (Linear(weight, None), ladder)]
    readout = Readout(torch.ones(1, dtype=torch.int64), Fraction(1))
    graph = chain((3,), *steps, readout, grid=Grid(Fraction(1), -4, 4))
    axis = torch.arange(-4, 4)
    x = torch.cartesian_prod(axis, axis, axis)
    wanted = run_integers(graph, x)
    for coding in (Repeated(3), BitPlane(), Thermometer(2)):
        network = SpikingNetwork(graph, tuple((f"n{k}", neuron) for k in (1, 3, 5)), coding)
        required = certify(network).steps_required
        assert required is not None
        trace = DenseEngine(network).run(x.float(), required + 1)
        assert torch.equal(trace.outputs[required - 1], wanted)
        assert bool(((trace.settled > 0) & (trace.settled <= required)).all())
    assert torch.equal(climb(ladder, x).clamp(-3, 4), climb(ladder, x))
