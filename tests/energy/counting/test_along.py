"""Recurrent networks are counted event by event: every event once, by a slow loop of its own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recurring import GRID, around, drawn_cell, jumping
from torch import Tensor

from spikemorph.convert import canonical, certify, to_spiking
from spikemorph.energy import estimate_energy
from spikemorph.energy.counting.count import count
from spikemorph.energy.results import HEADLINE, UNCHANGED
from spikemorph.graph.nested import nested_nodes
from spikemorph.layers.linear import Linear
from spikemorph.layers.multiply import Multiply
from spikemorph.quant import Quantisation, quantise_graph
from spikemorph.spiking import SpikingNetwork
from spikemorph.spiking.engines import engine_for
from spikemorph.spiking.network import Carry

KINDS = ("tanh", "gru", "gru, reset first", "lstm", "memory", "delays")


def network(
    kind: str, seed: int, carry: Carry, *, reverse: bool = False
) -> tuple[SpikingNetwork, Tensor]:
    body = drawn_cell(kind, 2, 3, seed)
    graph = canonical(around((body, reverse), elements=5, inputs=2, size=3))
    x = jumping(6, 5, 2, seed)
    settings = Quantisation(levels=9, state_levels=60, bias_correction=False)
    return to_spiking(quantise_graph(graph, x, GRID, settings), carry=carry), x


def slowly(found: SpikingNetwork, x: Tensor, steps: int) -> dict[str, int]:
    """Every Linear of the body: events of what it reads, each times the weights that are not zero."""
    trains = engine_for(found, name="reference").run(x, steps, record=True).trains
    op = found.graph["a"].op
    body = op.body  # type: ignore[attr-defined]
    after = {register.name: register.after for register in body.registers}
    starts = {register.name: register.start for register in body.registers}
    points, total = GRID.to_integers(x), dict[str, int]()
    order = list(range(5))[:: -1 if op.reverse else 1]  # type: ignore[attr-defined]

    def events(name: str, sample: int, place: int) -> Tensor:
        """(step, cell) what arrives of a node at the element in this place of the order."""
        if name in after:
            return events(after[name], sample, place - 1) if place else starts[name][None]
        if name in body.inputs:
            now = points[sample, order[place]]
            carried = found.carry is Carry.DELTA and place > 0
            return (now - points[sample, order[place - 1]] if carried else now)[None]
        return trains[f"a/{name}"][:, sample, order[place]]

    for node in body.nodes:
        if not isinstance(node.op, Linear):
            continue
        fan = (node.op.weight != 0).sum(0)
        total[f"a/{node.name}"] = sum(
            int(((events(node.inputs[0], sample, place) != 0).sum(0) * fan).sum())
            for sample in range(len(x))
            for place in range(5)
        )
    return total


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(KINDS), seed=st.integers(0, 999), carry=st.sampled_from(Carry),
    back=st.booleans(),
)  # fmt: skip
def test_every_event_at_every_weight(kind: str, seed: int, carry: Carry, back: bool) -> None:
    found, x = network(kind, seed, carry, reverse=back)
    steps = certify(found).steps_required
    assert steps is not None
    counts = count(found, x, steps)
    rows = {layer.node: layer for layer in counts.layers}
    for name, wanted in slowly(found, x, steps).items():
        assert rows[name].synops + rows[name].analog_macs == wanted, name
    trace = engine_for(found).run(x, steps)
    for name in trace.positive:
        assert rows[name].spikes_out == int((trace.positive[name] + trace.negative[name]).sum()), (
            name
        )


@pytest.mark.parametrize("carry", Carry)
def test_the_twin_and_its_three_ways_to_skip(carry: Carry) -> None:
    """All products at every element; those of what is not zero; those of what changed."""
    found, x = network("tanh", 4, carry)
    x[:, 3] = x[:, 2]
    row = {layer.node: layer for layer in count(found, x, 9).layers}["a/state.x"]
    op = dict(nested_nodes(found.graph))["a/state.x"].op
    assert isinstance(op, Linear)
    fan, points = (op.weight != 0).sum(0), GRID.to_integers(x)
    before = torch.cat([torch.zeros_like(points[:, :1]), points[:, :-1]], 1)
    assert row.elements == 5 and row.mac_masked == 5 * int(fan.sum())
    assert row.mac_effective == int(((points != 0) * fan).sum())
    assert row.mac_changed == int(((points != before) * fan).sum())


def test_biases_come_once_an_element_or_once_a_sequence() -> None:
    for carry, times in ((Carry.RESET, 5), (Carry.DELTA, 1)):
        found, x = network("gru", 3, carry)
        rows = {layer.node: layer for layer in count(found, x, 12).layers}
        op = dict(nested_nodes(found.graph))["a/reset.x"].op
        assert isinstance(op, Linear) and op.bias is not None
        assert rows["a/reset.x"].bias_adds == times * 6 * int((op.bias != 0).sum())


def test_elements_sum_to_their_layers() -> None:
    """The last element comes first where the order is reversed."""
    found, x = network("gru", 2, Carry.DELTA, reverse=True)
    x[:, :4] = x[:, 4:]
    counts = count(found, x, 14)
    (own,) = counts.along
    inner = [layer for layer in counts.layers if layer.node.startswith("a/")]
    for name in ("synops", "analog_macs", "spikes_out", "mac_effective", "mac_changed"):
        assert sum(getattr(own, name)) == sum(getattr(layer, name) for layer in inner)
        assert len(getattr(own, name)) == 5
    assert own.node == "a" and own.mac_masked * 5 == sum(layer.mac_masked for layer in inner)
    entering = {layer.node: layer for layer in inner}["a/reset.x"]
    assert entering.mac_changed == entering.mac_effective // 5 > 0  # the same at every element
    assert own.analog_macs == (0, 0, 0, 0, sum(layer.analog_macs for layer in inner))


@pytest.mark.parametrize("carry", Carry)
def test_a_gates_product_is_added_whenever_it_changes(carry: Carry) -> None:
    """A GRU's ``new + update * (h - new)``: both factors replayed step by step, over all elements."""
    found, x = network("gru", 3, carry)
    steps = certify(found).steps_required
    assert steps is not None
    trains = engine_for(found, name="reference").run(x, steps, record=True).trains
    body = found.graph["a"].op.body  # type: ignore[attr-defined]
    first, second = body["change"].op.factors
    (start,) = (register.start for register in body.registers)
    late = torch.zeros((steps, len(x), 3), dtype=torch.int64)
    late[0] = start
    gate, held = torch.zeros(2, len(x), 3, dtype=torch.int64)
    wanted = 0
    for at in range(5):
        gate, held = (kept * (carry is Carry.DELTA) for kept in (gate, held))
        new, update = (trains[f"a/{name}"][:, :, at] for name in ("new", "update"))
        for step in range(steps):
            before = gate * held
            gate = gate + update[step]
            held = held + first * late[step] + second * new[step]
            wanted += int((gate * held != before).sum()) + int((new[step] != 0).sum())
        late = trains["a/state"][:, :, at]
    rows = {layer.node: layer for layer in count(found, x, steps).layers}
    assert rows["a/state.sum"].adds == wanted


def test_where_little_changes_only_changes_are_sent() -> None:
    """A slow stream through a cell, by reset and by change: the same outputs, far fewer spikes."""
    draw = torch.Generator().manual_seed(1)
    told = {}
    for carry in Carry:
        body = drawn_cell("gru", 2, 3, 7)
        graph = canonical(around((body, False), elements=20, inputs=2, size=3))
        steps = torch.randint(-1, 2, (8, 20, 2), generator=draw.manual_seed(1))
        x = (0.5 + steps.cumsum(1) / 128).clamp(0, 1)
        settings = Quantisation(levels=9, state_levels=60, bias_correction=False)
        found = to_spiking(quantise_graph(graph, x, GRID, settings), carry=carry)
        most = certify(found).steps_required
        assert most is not None
        trace, counts = engine_for(found).run(x, most), count(found, x, most)
        told[carry] = trace.outputs[-1], int(trace.spikes().sum()), counts.synops
    (outputs, spikes, synops), (same, fewer, less) = told[Carry.RESET], told[Carry.DELTA]
    assert torch.equal(outputs, same)
    assert fewer <= 0.7 * spikes and less <= 0.7 * synops


def test_the_twin_of_differences_is_priced_where_there_are_elements() -> None:
    found, x = network("gru", 3, Carry.DELTA)
    x[:, 1:] = x[:, :1]
    told = estimate_energy(found, x, 14)
    assert any(band.against == UNCHANGED for band in told.bands)
    for row in told.prices:
        zeros, same = row.energy_uj(HEADLINE), row.energy_uj(UNCHANGED)
        assert (zeros is None) == (same is None)
        if row.in_band:
            assert zeros is not None and same is not None and same < zeros, row.name


def test_all_of_it_is_priced_and_what_is_stored_is_said() -> None:
    found, x = network("lstm", 5, Carry.DELTA)
    told = estimate_energy(found, x, 20)
    assert {"a/taken", "a/state", "a/cell"} <= {state.node for state in told.memory.states}
    assert not {"outputs", "readout.1", "a/readout"} & {state.node for state in told.memory.states}
    weights = [
        node.op.weight for _, node in nested_nodes(found.graph) if isinstance(node.op, Linear)
    ]
    assert sum(layer.nonzero for layer in told.memory.layers) == sum(
        int((w != 0).sum()) for w in weights
    )
    assert not told.fit.fits and "recurrent" in told.fit.problems[0]
    gates = [n for n, node in nested_nodes(found.graph) if isinstance(node.op, Multiply)]
    adds = {layer.node: layer.adds for layer in told.counts.layers}
    assert all(adds[name] > 0 for name in gates)
