"""Products of two computed values: exact in time, counted event by event, refused where not taken."""

from fractions import Fraction

import pytest
import torch
from helpers import draw
from torch import Tensor

from spikemorph.convert import canonical, to_spiking
from spikemorph.energy.counting.fan_out import reaches
from spikemorph.energy.counting.layer_facts import sites
from spikemorph.graph import Graph, GraphError, Input, Node, Op, UnsupportedError, run
from spikemorph.graph.grid import UNIT, Grid
from spikemorph.graph.interpret import run_integers
from spikemorph.layers.activation import ReLU, Sigmoid
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.joining import Add
from spikemorph.layers.ladder import Ladder
from spikemorph.layers.linear import Linear
from spikemorph.layers.multiply import Multiply
from spikemorph.layers.pooling import GlobalAverage
from spikemorph.layers.readout import Readout
from spikemorph.layers.shape import Reshape
from spikemorph.quant import Quantisation, quantise_graph
from spikemorph.quant.integers import rate_graph
from spikemorph.quant.rates import RateCoding
from spikemorph.spiking import DenseEngine, ReferenceEngine
from spikemorph.spiking.settling import settling

GRID = Grid(Fraction(1), -3, 4)


def whole(*shape: int, seed: int, most: int = 3) -> Tensor:
    return torch.randint(-most, most + 1, shape, generator=torch.Generator().manual_seed(seed))


def ladder(levels: int, smin: int = 0) -> Ladder:
    return Ladder(
        torch.arange(1, levels + 1)[None] * 3 + 3 * smin, smin, smin + levels, Fraction(1)
    )


def gated(seed: int) -> Graph:
    """Spikes times a gate, sums times sums, and a residual path around both."""
    steps: list[tuple[str, Op, tuple[str, ...]]] = [
        ("x", Input((4,), GRID), ()),
        ("wide", Linear(whole(5, 4, seed=seed), whole(5, seed=seed + 1)), ("x",)),
        ("narrow", Linear(whole(1, 4, seed=seed + 2), whole(1, seed=seed + 3)), ("x",)),
        ("a", ladder(7, -3), ("wide",)),
        ("gate", ladder(4), ("narrow",)),
        ("gated", Multiply(), ("gate", "a")),
        ("square", Multiply(), ("wide", "narrow")),
        ("sum", Add((torch.tensor(2), torch.tensor(-1))), ("gated", "square")),
        ("b", ladder(9, -4), ("sum",)),
        ("last", Linear(whole(3, 5, seed=seed + 4), whole(3, seed=seed + 5)), ("b",)),
        ("out", Readout(torch.tensor([1]), Fraction(1)), ("last",)),
    ]
    return Graph(tuple(Node(*step) for step in steps), ("x",), ("out",))


@pytest.mark.parametrize("seed", range(6))
def test_gates_settle_to_the_integer_network_and_need_their_last_step(seed: int) -> None:
    """At the certified step, on 64 inputs; outputs of the step before the latest one differ."""
    network = to_spiking(gated(seed))
    x = torch.randint(-3, 5, (64, 4), generator=torch.Generator().manual_seed(seed)).float()
    final = [own.final for own in settling(network).values()]
    steps = max(step for step in final if step is not None)
    trace = ReferenceEngine(network).run(x, steps, record=True)
    fast = DenseEngine(network).run(x, steps, record=True)
    for name, train in trace.trains.items():
        assert torch.equal(fast.trains[name], train), name
    assert torch.equal(fast.outputs, trace.outputs)
    outputs = trace.outputs
    want = run_integers(network.graph, network.grid.to_integers(x))
    assert None not in final
    assert torch.equal(outputs[-1], want)
    assert not torch.equal(outputs[0], want)


def test_an_event_at_either_factor_is_one_operation_for_every_product_it_changes() -> None:
    """Five products: an event of the gate, which all five read, is worth five, one of theirs one."""
    (gate, a) = reaches[Multiply](Multiply(), (1,), (5,)).adds
    assert gate.tolist() == [5] and a.tolist() == [1] * 5


def test_what_a_product_passes_on_is_added_at_a_join_behind_it() -> None:
    """Unlike a layer's sums, which are accumulated where they arrive: two terms of five cells."""
    sites_found = sites(to_spiking(gated(0)), 4)
    assert [int(adds.sum()) for adds in sites_found["sum"].reach.adds] == [5, 5]


def test_axes_that_do_not_pair_are_refused() -> None:
    with pytest.raises(GraphError, match="node 'y'.*2 axes and of 1"):
        nodes = Node("x", Input((3, 3))), Node("s", Linear(torch.ones(2, 3), None), ("x",))
        from_first = Node("y", Multiply(), ("s", "f"))
        flat = Node("f", Pick(), ("x",))
        run(Graph((*nodes, flat, from_first), ("x",), ("y",)), torch.ones(2, 3, 3))


class Pick(Op):
    """The first row."""

    def __call__(self, x: Tensor) -> Tensor:
        return x[:, 0]


@pytest.fixture(scope="module")
def excited() -> Graph:
    """Squeeze and excite: channels times gates that all positions have a say in."""
    steps: list[tuple[str, Op, tuple[str, ...]]] = [
        ("x", Input((2, 5, 5), UNIT), ()),
        ("c", Convolution(draw(4, 2, 3, 3), draw(4), (1, 1), ((0, 0), (0, 0)), (1, 1)), ("x",)),
        ("a", ReLU(), ("c",)),
        ("mean", GlobalAverage(), ("a",)),
        ("mixed", Convolution(draw(4, 4, 1, 1), None, (1, 1), ((0, 0), (0, 0)), (1, 1)), ("mean",)),
        ("gate", Sigmoid(), ("mixed",)),
        ("product", Multiply(), ("gate", "a")),
        ("flat", Reshape((36,)), ("product",)),
        ("y", Linear(draw(3, 36), draw(3)), ("flat",)),
    ]
    return canonical(Graph(tuple(Node(*step) for step in steps), ("x",), ("y",)))


def test_a_gate_is_quantised_by_the_product_of_its_factors_units(excited: Graph) -> None:
    """With 256 levels, within a fiftieth of the float network's largest output, and exact in time."""
    x = torch.rand(40, 2, 5, 5, generator=torch.Generator().manual_seed(1))
    integer = quantise_graph(excited, x, Grid.over(UNIT), Quantisation(levels=256))
    network = to_spiking(integer)
    sums = run_integers(integer, network.grid.to_integers(x))
    want = run(excited, x)
    assert float((network.readout.real(sums) - want).abs().max() / want.abs().max()) < 0.02
    steps = max(own.final or 0 for own in settling(network).values())
    assert torch.equal(ReferenceEngine(network).run(x[:6], steps).outputs[-1], sums[:6])


def test_a_product_of_rates_is_refused(excited: Graph) -> None:
    with pytest.raises(UnsupportedError, match="node 'product' .Multiply.: a product of two rates"):
        rate_graph(excited, torch.rand(9, 2, 5, 5), Grid.over(UNIT), RateCoding())
