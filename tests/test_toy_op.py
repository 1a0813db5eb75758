"""An op is one file: `Flip`, all of it here, goes from model to report; half an op is refused."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from helpers import draw
from onnx import helper
from torch import Tensor, nn

from spikemorph import convert_graph
from spikemorph.conversion import Conversion
from spikemorph.convert import canonical, read_onnx, read_torch
from spikemorph.energy import count, estimate_energy
from spikemorph.graph import Graph, Node, Op, UnsupportedError, run
from spikemorph.graph.calls import Call, Refusal
from spikemorph.graph.fields import Between
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import run_integers
from spikemorph.graph.saving import load_graph_file, save_graph
from spikemorph.graph.stages import CANONICAL, FLOAT, INTEGER, PREPARED, problems
from spikemorph.graph.tables import (
    Table,
    on_increments,
    on_integers,
    on_ranges,
    on_scales,
    reads_onnx,
    reads_torch,
)
from spikemorph.graph.traits import Moves
from spikemorph.layers.activation import ReLU
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.joining import Concat
from spikemorph.layers.linear import Linear
from spikemorph.layers.normalisation import BatchNorm
from spikemorph.layers.pooling import accumulate
from spikemorph.layers.ranges import Range
from spikemorph.layers.readout import Readout
from spikemorph.layers.shape import Reshape
from spikemorph.layers.slicing import Narrow
from spikemorph.measures.evaluation import evaluate
from spikemorph.measures.inspection import inspect_graph
from spikemorph.prune.channel_groups import couple_channels
from spikemorph.prune.channels import mask_channels, remove_channels
from spikemorph.quant import Quantisation, quantise_graph
from spikemorph.quant.learning import QuantisedModule
from spikemorph.quant.prepare import ready
from spikemorph.quant.twin import IntegerTwin
from spikemorph.quant.twin_rules import StraightThrough
from spikemorph.report.html import render_report
from spikemorph.report.record import Report
from spikemorph.spiking import DenseEngine
from spikemorph.surrogate import Dynamics, SpikingModule, fold, run_deployed

Build = Callable[..., Any]
UNIT = Grid.of(0, 1)


# The op, all of it: what it computes, what it is, and how two sources spell it.


@dataclass(frozen=True, eq=False)
class Flip(Moves):
    """The numbers along an axis (that counts the batch), the last one first."""

    axis: Annotated[int, Between(1)]

    def __call__(self, x: Tensor) -> Tensor:
        return x.flip(self.axis)


def read_flip(call: Call) -> tuple[Flip, ...]:
    axes = [int(axis) % (len(call.edge.shape) + 1) for axis in call.option("dims")]
    if 0 in axes:
        raise Refusal("it flips the samples", "flip channels or positions")
    return tuple(Flip(axis) for axis in axes)


def read_reverse(call: Call) -> Flip:
    lengths, axis = call.constant(1, "lengths"), int(call.option("time_axis", 0))
    if call.option("batch_axis", 1) != 0 or bool((lengths != call.edge.shape[axis - 1]).any()):
        raise Refusal("it reverses a part of some samples", "reverse a whole axis")
    return Flip(axis)


@pytest.fixture(autouse=True)
def rows(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As decorators in a file of `layers/` enter them; gone after the test."""
    monkeypatch.setitem(reads_torch._rows, torch.ops.aten.flip.default, read_flip)
    monkeypatch.setitem(reads_onnx._rows, "ReverseSequence", read_reverse)
    yield


class Mirror(nn.Module):
    """Flips between layers, of positions and of channels, and around a scale."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1)
        self.norm, self.last = nn.BatchNorm2d(6), nn.Linear(6 * 16, 5)
        for index, p in enumerate(self.parameters()):
            p.data = draw(*p.shape, seed=index) / p[0].numel() ** 0.5
        self.norm.running_mean = draw(6, seed=90)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(self.first(x).relu(), 2)
        scale = torch.arange(1.0, 5.0).reshape(1, 4, 1, 1)
        x = self.second((x * scale).flip(1, 3))
        x = self.norm(x.flip(2)).relu()
        return self.last(x.flip(1).flatten(1))


@pytest.fixture
def graph() -> Graph:
    return read_torch(Mirror().eval(), torch.zeros(2, 1, 8, 8))


@pytest.fixture
def found(graph: Graph) -> Conversion:
    return convert_graph(graph, images(60), grid=UNIT, quantisation=Quantisation())


def images(count: int, seed: int = 1) -> Tensor:
    x = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return UNIT.to_values(UNIT.to_integers(x))


def by_known_ops(graph: Graph) -> Graph:
    """The same network with every flip spelled as slices side by side."""
    for node in graph.nodes:
        if isinstance(node.op, Flip):
            axis, (source,) = node.op.axis, node.inputs
            size = run_shape(graph, source)[axis - 1]
            parts = [
                Node(f"{node.name}.{k}", Narrow(axis, k, 1), (source,))
                for k in reversed(range(size))
            ]
            joined = Node(node.name, Concat(axis), tuple(part.name for part in parts))
            graph = graph.substitute(node.name, *parts, joined)
    return graph


def run_shape(graph: Graph, name: str) -> tuple[int, ...]:
    part = replace(graph, outputs=(name,))
    x = images(1)
    made = run(part, x) if graph.entry.grid is None else run_integers(part, UNIT.to_integers(x))
    return tuple(made.shape[1:])


def test_it_is_read_and_canonical_form_keeps_what_it_computes(graph: Graph) -> None:
    """The scale ahead of two flips goes through them, each channel's to its new place."""
    assert [n.op.axis for n in graph.nodes if isinstance(n.op, Flip)] == [1, 3, 2, 1]
    x, form = images(5), canonical(graph)
    with torch.no_grad():
        wanted = Mirror().eval()(x)
    for g in (graph, form):
        torch.testing.assert_close(run(g, x), wanted, rtol=1e-5, atol=1e-5)
    behind = [n for n in form.nodes if isinstance(n.op, ScaleShift)]
    assert len(behind) == 1  # the norm behind a flip, which the ladder takes over


def test_it_is_read_from_onnx(write_onnx: Build, agree: Build) -> None:
    nodes = [
        helper.make_node("ReverseSequence", ["x", "n"], ["r"], batch_axis=0, time_axis=1),
        helper.make_node("Relu", ["r"], ["y"]),
    ]
    path = write_onnx(nodes, [1, 4, 3], {"n": np.array([4])})
    graph = agree(path, (1, 4, 3))
    assert [type(n.op) for n in graph.nodes][1:] == [Flip, ReLU]
    with pytest.raises(UnsupportedError, match="a part of some samples"):
        read_onnx(write_onnx(nodes, [1, 4, 3], {"n": np.array([3])}))


def test_it_is_legal_at_every_stage(graph: Graph, found: Conversion) -> None:
    form = canonical(graph)
    body, _ = ready(form)
    stages = (FLOAT, CANONICAL, PREPARED, INTEGER)
    for g, stage in zip((graph, form, body, found.network.graph), stages, strict=True):
        assert not problems(g, stage)
    assert [n for n in found.network.graph.nodes if isinstance(n.op, Flip)]


def test_the_certificate_holds_in_both_engines(found: Conversion, in_both: Build) -> None:
    """Level A, and after the steps it requires both engines' sums are the integer network's."""
    proved, x = found.certificate, images(6, seed=2)
    assert proved.level == "A" and proved.steps_required is not None
    trace = in_both(found.network, x, proved.steps_required + 1)
    wanted = run_integers(found.network.graph, UNIT.to_integers(x))
    assert torch.equal(trace.outputs[proved.steps_required - 1], wanted)
    assert bool((wanted != wanted[:1]).any())


def test_scales_move_with_the_channels() -> None:
    fine, coarse = Fraction(1, 8), Fraction(1, 2)
    shape, row = (3, 2, 2), on_scales[Flip]
    assert row(Flip(1), [(fine, coarse, coarse)], [shape]) == (coarse, coarse, fine)
    assert row(Flip(2), [(fine, coarse, coarse)], [shape]) == (fine, coarse, coarse)


def test_it_costs_nothing_and_its_neighbours_are_counted_right(found: Conversion) -> None:
    network, x = found.network, images(4, seed=3)
    other = replace(network, graph=by_known_ops(network.graph))
    ours, theirs = (count(n, x, 6).to_dict() for n in (network, other))
    assert ours == theirs
    assert "Flip" not in {layer["op"] for layer in ours["layers"]}
    assert ours["totals"]["synops"] > 0


def test_a_report_page_is_made(graph: Graph, found: Conversion) -> None:
    x, y = images(10, seed=4), torch.arange(10) % 5
    told = inspect_graph("mirror", graph)
    assert all(node.converts for node in told.nodes)
    assert {n.reason for n in told.nodes if n.op == "Flip"} == {"kept: moves integers"}
    engine, steps = DenseEngine(found.network), (1, 4, 8)
    measured = evaluate(found.network, engine, found.certificate, x, y, steps=steps,
                        names=("mirror", "images"), float_graph=found.float_graph)  # fmt: skip
    energy = estimate_energy(found.network, x[:2], 8, model="mirror", data="images")
    parts = {
        "model": told,
        "certificate": found.certificate,
        "evaluation": measured,
        "energy": energy,
    }
    page = render_report(Report({n: json.loads(json.dumps(p.to_dict())) for n, p in parts.items()}))
    assert "Flip" in page and "mirror" in page


def test_it_is_stored_and_read_back(graph: Graph, tmp_path: Path) -> None:
    path = tmp_path / "mirror.safetensors"
    save_graph(path, graph.declare(UNIT.interval))
    again = load_graph_file(path)
    assert torch.equal(run(again, images(3)), run(graph, images(3)))


def test_channels_are_followed_through_it(graph: Graph) -> None:
    """Channel 0 of the first layer is channel 3 of what the second reads."""
    groups = couple_channels(graph)
    assert [g.pinned for g in groups.groups if g.members].count(None) == 4 + 6
    first = next(n.name for n in graph.nodes if isinstance(n.op, Convolution))
    masked, smaller = mask_channels(graph, {first: [0]}), remove_channels(graph, {first: [0]})
    weights = [n.op.weight for n in masked.nodes if isinstance(n.op, Convolution)]
    assert (weights[1] == 0).all(3).all(2).all(0).tolist() == [False, False, False, True]
    torch.testing.assert_close(
        run(smaller, images(3)), run(masked, images(3)), rtol=1e-4, atol=1e-5
    )


def test_it_is_trained_on_either_road(graph: Graph, found: Conversion) -> None:
    x = images(8, seed=5)
    twin = IntegerTwin(found.network.graph)
    exact = found.network.readout.real(run_integers(found.network.graph, UNIT.to_integers(x)))
    assert torch.equal(twin(x, StraightThrough()), exact)
    plain = canonical(without_norm(graph))
    module = QuantisedModule(plain, images(60), UNIT, Quantisation())
    integer = module.to_integers()
    readout = integer[integer.outputs[0]].op
    assert isinstance(readout, Readout)
    wanted = readout.real(run_integers(integer, UNIT.to_integers(x)))
    assert torch.equal(module(x).detach(), wanted)
    timed = SpikingModule(graph, Dynamics(4)).double().eval()
    for threshold in timed.thresholds.values():
        threshold.data.fill_(0.25)
    with torch.no_grad():
        wanted = timed(x.double())
    deployed = run_deployed(fold(timed, torch.float64), x.double())
    torch.testing.assert_close(deployed, wanted)


def without_norm(graph: Graph) -> Graph:
    """The network without its norm, whose scale no layer takes."""
    return graph.map(lambda n: replace(n, op=Flip(2)) if isinstance(n.op, BatchNorm) else n)


@dataclass(frozen=True, eq=False)
class Square(Op):
    """An op without a trait: whoever wants something of it needs its row."""

    def __call__(self, x: Tensor) -> Tensor:
        return x * x


ROWS: tuple[tuple[Table[Any], Callable[..., Any]], ...] = (
    (on_integers, lambda op, x: op(x)),
    (on_increments, accumulate),
    (on_ranges, lambda op, source: Range.of(0, source.peak**2)),
    (on_scales, lambda op, scales, shapes: tuple(scale * scale for scale in scales[0])),
)


@pytest.fixture
def squared(chain: Build) -> Graph:
    first = Convolution(draw(3, 1, 3, 3), None, (1, 1), ((0, 0),) * 2, (1, 1))
    last = Linear(draw(4, 108), None)
    graph: Graph = chain((1, 8, 8), first, ReLU(), Square(), Reshape((108,)), last)
    return graph


@pytest.mark.parametrize("given", range(4))
def test_half_an_op_is_refused_with_the_rows_it_lacks(
    given: int, squared: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither "no integer meaning" nor a crash: the very rows, and no others, at the very node."""
    for table, row in ROWS[:given]:
        monkeypatch.setitem(table._rows, Square, row)
    lacking = " and ".join(table.name for table, _ in ROWS[given:])
    with pytest.raises(UnsupportedError) as caught:
        quantise_graph(squared, images(20), UNIT, Quantisation())
    (problem,) = caught.value.problems
    assert (problem.node, problem.op) == ("n2", "Square")
    assert problem.reason == f"it has no row in {lacking}"
    (told,) = (n for n in inspect_graph("squared", squared).nodes if n.op == "Square")
    assert not told.converts and lacking in told.reason


def test_an_op_with_all_rows_is_exact_but_its_work_does_not_count_as_nothing(
    squared: Graph, in_both: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not even linear: sums are formed before it, and a relay makes spikes behind it."""
    for table, row in ROWS:
        monkeypatch.setitem(table._rows, Square, row)
    made = convert_graph(squared, images(20), grid=UNIT, quantisation=Quantisation())
    assert made.certificate.level == "A" and made.certificate.steps_required is not None
    x = images(4, seed=6)
    trace = in_both(made.network, x, made.certificate.steps_required)
    assert torch.equal(trace.outputs[-1], run_integers(made.network.graph, UNIT.to_integers(x)))
    with pytest.raises(UnsupportedError, match="'n2' .Square.: it has no row in .*reaches"):
        count(made.network, images(2), 4)
    kept = {g.pinned for g in couple_channels(squared).groups}
    assert any("cannot be followed" in (reason or "") for reason in kept)
