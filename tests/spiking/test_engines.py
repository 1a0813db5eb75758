"""Engines: an explicit state, steps that add up to a run, one table, and several computed inputs."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor

from spikemorph.convert import certify, to_spiking
from spikemorph.graph import Graph, Input, InputError, Node, Op
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import run_integers, shapes
from spikemorph.graph.tables import on_increments, on_integers, on_ranges
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.integer_pass import IntegerPass
from spikemorph.layers.linear import Linear
from spikemorph.layers.pooling import accumulate
from spikemorph.layers.ranges import Range
from spikemorph.layers.readout import Readout
from spikemorph.spiking import DenseEngine, ReferenceEngine, SpikingNetwork
from spikemorph.spiking.bounds import ranges
from spikemorph.spiking.engine import Engine, State
from spikemorph.spiking.engines import engine_for, engines
from spikemorph.spiking.neurons import STBIF, pow2
from spikemorph.spiking.settling import settling

Build = Callable[..., Any]
CPU = torch.device("cpu")
ONE = Readout(torch.ones(1, dtype=torch.int64), Fraction(1))
GRID = Grid(Fraction(1), -7, 15)


@dataclass(frozen=True, eq=False)
class Times(Op):
    """``x y + 3``: two computed inputs, neither linear alone, and something of nothing."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        x, y = inputs
        return x * y + 3


def _range(op: Times, x: Range, y: Range) -> Range:
    most = x.peak * y.peak + 3
    return Range.of(-most, most)


@pytest.fixture
def product(even_ladder: Build, monkeypatch: pytest.MonkeyPatch) -> Graph:
    """Two ladders, their product, and a ladder that reads it."""
    monkeypatch.setitem(on_integers._rows, Times, lambda op, *sums: op(*sums))
    monkeypatch.setitem(on_increments._rows, Times, accumulate)
    monkeypatch.setitem(on_ranges._rows, Times, _range)
    draw = torch.Generator().manual_seed(3)
    weight = [torch.randint(-5, 6, (4, 4), generator=draw) for _ in range(3)]
    nodes = (
        Node("x", Input((4,), GRID)),
        Node("a", Linear(weight[0], None), ("x",)),
        Node("left", even_ladder(9, 1, 4, -6, 6), ("a",)),
        Node("b", Linear(weight[1], torch.tensor([3, -9, 1, 0])), ("left",)),
        Node("right", even_ladder(4, 1, 2, 0, 9), ("b",)),
        Node("times", Times(), ("left", "right")),
        Node("last", even_ladder(5, 1, 0, -4, 7), ("times",)),
        Node("c", Linear(weight[2], None), ("last",)),
        Node("out", ONE, ("c",)),
    )
    return Graph(nodes, ("x",), ("out",))


X = torch.randint(-7, 16, (24, 4), generator=torch.Generator().manual_seed(4)).float()


@pytest.mark.parametrize("neuron", [STBIF(), pow2()], ids=lambda n: n.name)
def test_a_product_of_two_ladders_runs_in_both_engines(
    neuron: Any, product: Graph, in_both: Build
) -> None:
    network = to_spiking(product, neuron)
    steps = certify(network).steps_required
    assert steps is not None
    trace = in_both(network, X, steps + 3)
    wanted = run_integers(product, X.long())
    assert len(wanted.unique()) > 12
    assert torch.equal(trace.outputs[-1], wanted)
    assert torch.equal(IntegerPass(product)(X), wanted)


@pytest.fixture
def network(chain: Build, even_ladder: Build) -> SpikingNetwork:
    """Three layers; samples settle at different steps."""
    draw = torch.Generator().manual_seed(5)
    ops: list[Op] = []
    for _ in range(3):
        ops += [Linear(torch.randint(-3, 4, (4, 4), generator=draw), None)]
        ops += [even_ladder(5, 1, 2, 0, 15)]
    graph: Graph = chain((4,), *ops, ONE, grid=GRID)
    return to_spiking(graph, STBIF())


@pytest.mark.parametrize("name", engines)
def test_steps_one_by_one_are_the_run(name: str, network: SpikingNetwork) -> None:
    """And a state goes on as often as one likes: nothing is kept elsewhere."""
    engine = engine_for(network, CPU, 40, name)
    trace = engine.run(X, 40, record=True)
    points, state = X.long(), engine.start()
    for k in range(40):
        before = state
        state, step = engine.step(before, points, record=True)
        _, again = engine.step(before, points, record=True)
        assert state.done == k + 1 and torch.equal(step.outputs, again.outputs)
        assert torch.equal(step.outputs[0], trace.outputs[k])
        for layer, train in trace.trains.items():
            assert torch.equal(step.spikes[layer][0].long(), train[k])
            assert torch.equal(step.positive[layer][0].long(), trace.positive[layer][k])
            assert torch.equal(step.negative[layer][0].long(), trace.negative[layer][k])


@pytest.mark.parametrize("name", engines)
def test_a_state_of_some_samples_goes_on_as_theirs(name: str, network: SpikingNetwork) -> None:
    engine = engine_for(network, CPU, 40, name)
    state, _ = engine.step(engine.start(), X.long(), 3)
    some = torch.tensor([20, 3, 7])
    _, alone = engine.step(state.of(some), X.long()[some], 4)
    _, whole = engine.step(state, X.long(), 4)
    assert torch.equal(alone.outputs, whole.outputs[:, some])


def test_a_run_ends_when_all_samples_have_settled(
    network: SpikingNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No step is computed after the silent one, none for a sample long settled; the trace is whole."""
    wanted = ReferenceEngine(network).run(X, 60, record=True)
    engine, computed = DenseEngine(network), list[tuple[int, int]]()
    step = DenseEngine.step

    def noted(self: DenseEngine, state: State, points: Tensor, count: int = 1, **more: Any) -> Any:
        computed.append((len(points), count))
        return step(self, state, points, count, **more)

    monkeypatch.setattr(DenseEngine, "step", noted)
    found = engine.run(X, 60, record=True)
    assert sum(count for _, count in computed) <= int(wanted.settled.max()) + engine.stride
    assert computed[-1][0] < len(X) == computed[0][0]
    assert torch.equal(found.outputs, wanted.outputs)
    assert torch.equal(found.settled, wanted.settled)
    for layer, train in wanted.trains.items():
        assert torch.equal(found.trains[layer], train)


def test_the_table_of_engines_says_what_each_can_do(network: SpikingNetwork) -> None:
    built: list[Engine] = [engine_for(network, CPU, 9, name) for name in ("auto", *engines)]
    assert [type(engine) for engine in built] == [DenseEngine, DenseEngine, ReferenceEngine]
    with pytest.raises(InputError, match="choose one of auto, dense, reference"):
        engine_for(network, CPU, 9, "quantum")
    with pytest.raises(InputError, match="reference: it runs on the CPU, not on meta"):
        engine_for(network, torch.device("meta"), 9, "reference")


def test_what_is_known_of_a_network_is_worked_out_once(
    network: SpikingNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bounds by their rows: a second engine, a certificate and a count ask none again."""
    asked = list[Op]()
    row = on_ranges[Linear]
    monkeypatch.setitem(on_ranges._rows, Linear, lambda op, *r: (asked.append(op), row(op, *r))[1])
    fresh = to_spiking(network.graph, STBIF())
    DenseEngine(fresh)
    assert len(asked) == 3
    certify(fresh), DenseEngine(fresh), ReferenceEngine(fresh), settling(fresh)
    assert len(asked) == 3
    bounds = ranges(fresh)
    bounds.clear()  # what was given out may be changed
    sizes = shapes(fresh.graph)
    sizes.clear()
    assert ranges(fresh) and shapes(fresh.graph)


def test_no_product_is_taken_in_whole_number_types(
    network: SpikingNetwork, product: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor where sums pass 53 bits: int64 products are several times slower than float64."""
    kinds = set[torch.dtype]()
    for op in (Convolution, Linear):
        exact = op.products

        def noted(self: Any, x: Tensor, exact: Any = exact) -> Any:
            if x.device.type != "meta":  # where shapes are asked for, nothing is computed
                kinds.add(x.dtype)
            return exact(self, x)

        monkeypatch.setattr(op, "products", noted)
    wide = network.graph.map(
        lambda node: Node(
            node.name,
            node.op.having(weight=node.op.weight.long() * (2**52 + 1))
            if node.name == "n0"
            else node.op,
            node.inputs,
        )
    )
    for graph in (network.graph, product, wide):
        IntegerPass(graph)(X)
        DenseEngine(to_spiking(graph)).run(X, 5)
    assert kinds == {torch.float32, torch.float64}
