"""Simulators with a bug injected: each must differ from the integer pass, or no test here is worth much.

Settled outputs come from the simulation itself, not from the integer pass: so every mutant shows.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor

from spikemorph.convert import canonical, certify, to_spiking
from spikemorph.graph import Graph, Input, Node
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import run_integers
from spikemorph.graph.tables import on_increments, on_integers
from spikemorph.layers.activation import ReLU
from spikemorph.layers.carriers import Products
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.joining import Add
from spikemorph.layers.ladder import Ladder, climb
from spikemorph.layers.linear import Linear
from spikemorph.layers.pooling import AveragePool, MaxPool, SumPool
from spikemorph.layers.readout import Readout
from spikemorph.layers.shape import Reshape
from spikemorph.quant import Percentile, Quantisation, quantise_graph
from spikemorph.spiking import (
    DenseEngine,
    Neuron,
    ReferenceEngine,
    SpikingNetwork,
    compiled,
    dense,
    increments,
    reference,
)
from spikemorph.spiking.engine import State, Step
from spikemorph.spiking.neurons import STBIF, pow2

Engine = type[ReferenceEngine] | type[DenseEngine]
Patch = pytest.MonkeyPatch
both = pytest.mark.parametrize("engine", [ReferenceEngine, DenseEngine])
STEPS_PAST = 20  # the dense engine computes few steps at once: several chunks


@dataclass(frozen=True)
class Case:
    """A residual network with both pools, its inputs, and what the integer pass makes of them."""

    graph: Graph
    x: Tensor
    wanted: Tensor

    def mismatches(self, engine: Engine, neuron: Neuron, graph: Graph | None = None) -> int:
        """How many logits of the simulator are wrong at the certified step."""
        network = to_spiking(graph or self.graph, neuron)
        steps = (certify(to_spiking(self.graph, neuron)).steps_required or 0) + STEPS_PAST
        return int((engine(network).run(self.x, steps).outputs[-1] != self.wanted).sum())


@pytest.fixture(scope="module")
def case() -> Case:
    generator = torch.Generator().manual_seed(11)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    same, none, one = ((1, 1), (1, 1)), ((0, 0), (0, 0)), (1, 1)
    first = Convolution(normal(6, 2, 3, 3) / 3, normal(6) / 4, one, same, one)
    second = Convolution(normal(6, 6, 3, 3) / 5, normal(6) / 4, one, same, one)
    halves = AveragePool((2, 2), (2, 2), none, none, counts_padding=True)
    plus = Add((torch.tensor(1.0), torch.tensor(1.0)))
    nodes = [
        Node("x", Input((2, 6, 6))),
        Node("c1", first, ("x",)),
        Node("a1", ReLU(), ("c1",)),
        Node("c2", second, ("a1",)),
        Node("sum", plus, ("c2", "a1")),
        Node("a2", ReLU(), ("sum",)),
        Node("max", MaxPool((3, 3), (1, 1), same, one), ("a2",)),
        Node("mean", halves, ("max",)),
        Node("flat", Reshape((54,)), ("mean",)),
        Node("l1", Linear(normal(12, 54) / 5, normal(12)), ("flat",)),
        Node("a3", ReLU(), ("l1",)),
        Node("l2", Linear(normal(4, 12), normal(4)), ("a3",)),
    ]
    float_graph = canonical(Graph(tuple(nodes), ("x",), ("l2",)))
    x, grid = torch.rand(24, 2, 6, 6, generator=generator), Grid(Fraction(1, 15), 0, 15)
    graph = quantise_graph(float_graph, x, grid, Quantisation(16, 8, Percentile(0.9)))
    return Case(graph, x, run_integers(graph, grid.to_integers(x)))


@pytest.fixture(scope="module")
def tied(chain: Callable[..., Graph], even_ladder: Callable[..., Ladder]) -> Case:
    """Three layers with a threshold of 2 and small weights: sums often lie right at a rung."""
    generator = torch.Generator().manual_seed(5)
    steps: list[Any] = []
    for _ in range(3):
        weight = torch.randint(-2, 3, (8, 8), generator=generator)
        steps += [Linear(weight, None), even_ladder(2, 1, 0, 0, 9)]
    steps.append(Readout(torch.ones(1, dtype=torch.int64), Fraction(1)))
    graph = chain((8,), *steps, grid=Grid(Fraction(1), 0, 9))
    x = torch.randint(0, 10, (24, 8), generator=generator)
    return Case(graph, x.float(), run_integers(graph, x))


@both
@pytest.mark.parametrize("neuron", [STBIF(), pow2()], ids=lambda n: n.name)
def test_without_a_bug_all_logits_are_right(
    case: Case, tied: Case, engine: Engine, neuron: Neuron
) -> None:
    assert case.mismatches(engine, neuron) == tied.mismatches(engine, neuron) == 0
    assert len(case.wanted.unique()) > 24  # they are not all alike
    assert len(tied.wanted.unique()) == 10


def replaced(graph: Graph, change: Callable[[Ladder], Ladder]) -> Graph:
    """The graph with every ladder changed."""
    return graph.map(lambda n: replace(n, op=change(n.op)) if isinstance(n.op, Ladder) else n)


@both
@pytest.mark.parametrize(
    "neuron",
    [
        pytest.param(replace(STBIF(), capped=False), id="missing-smax"),
        pytest.param(replace(STBIF(), negative_margin=Fraction(1)), id="hysteresis-of-theta"),
        pytest.param(replace(STBIF(), down=0), id="no-retraction"),
    ],
)
def test_wrong_neurons_show(case: Case, engine: Engine, neuron: Neuron) -> None:
    """And the certificate refuses each of them."""
    assert case.mismatches(engine, neuron) > 0
    assert certify(to_spiking(case.graph, neuron)).level is None


@both
def test_a_start_at_zero_shows(case: Case, engine: Engine) -> None:
    """V0 = 0 instead of half a threshold: floor instead of rounding to nearest."""

    def start_at_zero(op: Ladder) -> Ladder:
        assert op.line is not None
        line = replace(op.line, start=torch.zeros_like(op.line.start))
        return Ladder(line.rungs(op.smin, op.smax or 0), op.smin, op.smax, op.unit, line)

    assert case.mismatches(engine, STBIF(), replaced(case.graph, start_at_zero)) > 0


@both
def test_a_bias_at_every_step_shows(case: Case, engine: Engine, monkeypatch: Patch) -> None:
    simulator = engine(to_spiking(case.graph, STBIF()))
    monkeypatch.setattr(SpikingNetwork, "rate_coded", property(lambda self: True))
    if isinstance(simulator, DenseEngine):
        passages = simulator.compiled.passages
        passages.update({name: replace(own, repeats=True) for name, own in passages.items()})
    outputs = simulator.run(case.x, 50).outputs[-1]
    assert int((outputs != case.wanted).sum()) > 0


Advance = Callable[..., tuple[State, Step]]


def forgetful(advance: Advance) -> Advance:
    """Every chunk of steps but the first starts from empty sums."""

    def step(self: DenseEngine, state: State, *rest: Any, **options: Any) -> Any:
        kept = {
            name: (torch.zeros_like(own[0]), *own[1:]) if name in self.compiled.layers else own
            for name, own in state.held.items()
        }
        return advance(self, State(state.done, kept), *rest, **options)

    return step


def never_reset(advance: Advance) -> Advance:
    """Runs begin with the tracers that the run before ended with."""
    shared: dict[str, tuple[Tensor, ...]] = {}

    def step(self: DenseEngine, state: State, *rest: Any, **options: Any) -> Any:
        state, made = advance(self, replace(state, held={**shared, **state.held}), *rest, **options)
        for name in self.compiled.layers:
            total, tracer = state.held[name]
            shared[name] = (torch.zeros_like(total), tracer)
        return state, made

    return step


@pytest.mark.parametrize("break_run", [forgetful, never_reset])
def test_lost_or_stale_state_shows_in_the_dense_engine(
    case: Case, break_run: Callable[[Advance], Advance], monkeypatch: Patch
) -> None:
    """Sums lost between chunks; tracers carried from one batch to the next."""
    monkeypatch.setattr(DenseEngine, "stops", False)  # else samples are left out, and do not fit
    monkeypatch.setattr(DenseEngine, "step", break_run(DenseEngine.step))
    first = case.mismatches(DenseEngine, STBIF())
    again = case.mismatches(DenseEngine, STBIF())
    assert again > 0
    assert (first > 0) == (break_run is forgetful)


def test_stale_state_shows_in_the_reference(case: Case, monkeypatch: Patch) -> None:
    """Tracers that begin where those of the batch before ended."""
    ends: dict[int, reference.Membrane] = {}
    rest, fire = reference.rest, reference.fire

    def stale_rest(op: Ladder, shape: torch.Size) -> reference.Membrane:
        begin = rest(op, shape)
        return begin._replace(tracer=ends[id(op)].tracer) if id(op) in ends else begin

    def noting_fire(op: Ladder, *rest_of_it: Any) -> Any:
        state, spikes = fire(op, *rest_of_it)
        ends[id(op)] = state
        return state, spikes

    monkeypatch.setattr(reference, "rest", stale_rest)
    monkeypatch.setattr(reference, "fire", noting_fire)
    assert case.mismatches(ReferenceEngine, STBIF()) == 0
    assert case.mismatches(ReferenceEngine, STBIF()) > 0


@both
@pytest.mark.parametrize("slip", [-1, 1])
@pytest.mark.parametrize("neuron", [STBIF(), pow2()], ids=lambda n: n.name)
def test_an_off_by_one_in_the_scan_shows(
    case: Case, engine: Engine, neuron: Neuron, slip: int, monkeypatch: Patch
) -> None:
    """Residuals of one sign are taken for one larger or smaller: in no other way wrong."""
    room: Any = reference if engine is ReferenceEngine else dense
    spikes = room._spikes

    def slipped(neuron: Neuron, residual: Tensor, since: int) -> Tensor:
        wrong = torch.where(residual * slip > 0, residual - slip, residual)
        return spikes(neuron, wrong, since)

    monkeypatch.setattr(room, "_spikes", slipped)
    assert case.mismatches(engine, neuron) > 0


def test_a_negative_spike_at_zero_shows_in_the_reference(tied: Case, monkeypatch: Patch) -> None:
    """V <= 0 instead of V < 0: a neuron at rest sends back what it has sent."""
    fire = reference.fire

    def eager(
        op: Ladder, neuron: Neuron, state: reference.Membrane, current: Tensor, since: int | None
    ) -> Any:
        after, spikes = fire(op, neuron, state, current, since)
        assert op.line is not None
        theta = op.line.threshold.reshape(1, -1, *[1] * (spikes.dim() - 2))
        empty = (after.potential == 0) & (spikes == 0) & (state.tracer > op.smin)
        return (
            reference.Membrane(
                after.potential + theta * empty, after.tracer - empty.long(), after.total
            ),
            spikes - empty.long(),
        )

    monkeypatch.setattr(reference, "fire", eager)
    assert tied.mismatches(ReferenceEngine, STBIF()) > 0


def test_firing_above_the_threshold_only_shows_in_the_dense_engine(
    tied: Case, monkeypatch: Patch
) -> None:
    """``C > tau`` instead of ``C >= tau``: wrong at ties alone."""
    monkeypatch.setattr(
        compiled,
        "staircase",
        lambda op, *_, **__: lambda sums: climb(op, sums.long() - 1).to(sums.dtype),
    )
    assert tied.mismatches(DenseEngine, STBIF()) > 0


@both
def test_dividing_pools_show(case: Case, engine: Engine, monkeypatch: Patch) -> None:
    """An average pool that divides what passes through it, and rounds."""
    table = on_integers if engine is ReferenceEngine else on_increments

    def average(op: SumPool, x: Tensor) -> Tensor:
        return torch.floor(op(x).double() / op.kernel[0] ** 2).to(x.dtype)

    monkeypatch.setitem(table._rows, SumPool, average)
    assert case.mismatches(engine, STBIF()) > 0


def test_pooling_increments_shows(case: Case, monkeypatch: Patch) -> None:
    """The maximum of spikes is not the increment of the maximum."""
    monkeypatch.setitem(on_increments._rows, MaxPool, lambda op, x: op(x))
    assert case.mismatches(DenseEngine, STBIF()) > 0


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_shows(case: Case, kind: torch.dtype, monkeypatch: Patch) -> None:
    """Sums carried in 11 or 8 bits, with the probe of the products switched off."""
    for room in (compiled, increments):
        monkeypatch.setattr(room, "carrier", lambda *_: kind)
    monkeypatch.setattr(Products, "kind", lambda *_: kind)
    assert case.mismatches(DenseEngine, STBIF()) > 0
