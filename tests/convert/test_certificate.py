"""Certificates: what gets which level, what is refused and why, what a file may not pretend."""

import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch

from spikemorph.convert import certify, load_certified, to_spiking
from spikemorph.convert.certificate import network_hash
from spikemorph.graph import Graph, GraphError, InputError
from spikemorph.graph.grid import Grid
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.ladder import Ladder, Line
from spikemorph.layers.linear import Linear
from spikemorph.layers.readout import Readout
from spikemorph.spiking import (
    DenseEngine,
    Neuron,
    ReferenceEngine,
    Schedule,
    SpikingNetwork,
    save_network,
)
from spikemorph.spiking.coding import BitPlane, Constant, Repeated
from spikemorph.spiking.neurons import BIF, IF, SNM, STBIF, burst, few_spikes, group, pow2

Build = Callable[..., Any]
GRID = Grid(Fraction(1), 0, 7)
READ = Readout(torch.ones(1, dtype=torch.int64), Fraction(1))


@pytest.fixture
def two_layers(chain: Build, even_ladder: Build) -> Graph:
    """Two layers of three neurons with 7 levels above zero; n1 and n3 spike."""
    weight = torch.tensor([[3, -2, 1], [1, 1, -3], [-1, 4, 2]])
    ladder = even_ladder(5, 1, 2, 0, 7)
    steps = (Linear(weight, None), ladder, Linear(weight.t(), torch.tensor([1, 2, 3])), ladder)
    graph: Graph = chain((3,), *steps, READ, grid=GRID)
    return graph


@pytest.mark.parametrize(
    ("neuron", "schedule", "required"),
    [
        pytest.param(pow2(), Schedule.FREE, 1 + 1 + 1, id="pow2"),  # 7 = 8 - 1, 6 = 4 + 2
        pytest.param(STBIF(), Schedule.FREE, 1 + 6 + 6, id="st-bif"),
        pytest.param(group(2), Schedule.FREE, 1 + 3 + 3, id="group"),  # 7 = 2 + 2 + 2 + 1
        pytest.param(group(15), Schedule.FREE, 1, id="group-15"),
        pytest.param(IF(), Schedule.WAIT, 1 + 6 + 6, id="if-waits"),
        pytest.param(few_spikes(), Schedule.WAIT, 1 + 2 + 2, id="few-spikes-wait"),
    ],
)
def test_level_a_from_the_required_step_on(
    two_layers: Graph, neuron: Neuron, schedule: Schedule, required: int
) -> None:
    network = to_spiking(two_layers, neuron, schedule=schedule)
    proof = certify(network)
    assert proof.steps_required == required
    assert (proof.level, proof.refusals) == ("A", ())
    assert proof.steps_used == proof.steps_required
    assert certify(network, required).level == "A"
    if required > 1:
        assert certify(network, required - 1).level == "B"
    with pytest.raises(InputError, match="0 steps: a network runs for 1 step or more"):
        certify(network, 0)


@pytest.mark.parametrize(
    ("neuron", "schedule", "reasons"),
    [
        pytest.param(IF(), Schedule.FREE, {"n3": "cannot take spikes back"}, id="if"),
        pytest.param(
            burst(), Schedule.FREE, {"n1": "has no cap", "n3": "a layer before it"}, id="burst"
        ),
        pytest.param(
            SNM(), Schedule.FREE, {"n1": "retracts only 1 thresholds", "n3": "a layer before"}, id="snm"
        ),
        pytest.param(
            SNM(), Schedule.WAIT, {"n1": "retracts only 1 thresholds", "n3": "a layer before"},
            id="snm-waits",
        ),
        pytest.param(BIF(), Schedule.FREE, {"n1": "has no cap", "n3": "a layer before"}, id="bif"),
        pytest.param(
            few_spikes(), Schedule.FREE, {"n3": "fires before its input is complete"}, id="few-spikes"
        ),
    ],
)  # fmt: skip
def test_refusals_name_every_node(
    two_layers: Graph, neuron: Neuron, schedule: Schedule, reasons: dict[str, str]
) -> None:
    proof = certify(to_spiking(two_layers, neuron, schedule=schedule))
    assert proof.level is None and proof.steps_required is None
    assert len(proof.refusals) == len(reasons)
    for refusal, (node, reason) in zip(proof.refusals, reasons.items(), strict=True):
        assert refusal.startswith(f"node {node!r}: ")
        assert reason in refusal


def test_integrate_and_fire_is_certified_where_it_is_exact(
    chain: Build, even_ladder: Build
) -> None:
    """Theorem 5: a first layer whose input comes at once; not one whose input trickles in."""
    graph = chain(
        (2,), Linear(torch.tensor([[2, -1]]), None), even_ladder(3, 1, 1, 0, 4), READ,
        grid=Grid(Fraction(1), 0, 7),
    )  # fmt: skip
    assert certify(to_spiking(graph, IF())).level == "A"
    assert certify(to_spiking(graph, IF(), coding=Repeated(2))).level is None
    assert certify(to_spiking(graph, IF(), coding=Repeated(2), schedule=Schedule.WAIT)).level == "A"


def test_a_missing_cap_matters_only_where_sums_pass_the_top(
    chain: Build, even_ladder: Build
) -> None:
    """Sums of at most 14 reach floor((14 + 1) / 3) = 5: past a top of 4, at one of 5."""
    x = torch.tensor([[7.0, 7.0]])
    for top, level in ((4, None), (5, "A")):
        graph = chain(
            (2,), Linear(torch.tensor([[1, 1]]), None), even_ladder(3, 1, 1, 0, top), READ,
            grid=Grid(Fraction(1), 0, 7),
        )  # fmt: skip
        network = to_spiking(graph, BIF())
        assert certify(network).level == level
        assert ReferenceEngine(network).run(x, 9).outputs[-1].item() == 5


@pytest.mark.parametrize("neuron", [IF(), STBIF(), pow2(), few_spikes()], ids=lambda n: n.name)
def test_rate_coding_is_refused_whatever_the_neuron(two_layers: Graph, neuron: Neuron) -> None:
    proof = certify(to_spiking(two_layers, neuron, coding=Constant()))
    assert proof.level is None and proof.input_steps is None
    assert [r.split(":")[0] for r in proof.refusals] == ["node 'n1'", "node 'n3'"]
    assert all("rate coding" in refusal for refusal in proof.refusals)


def test_a_rate_needs_a_largest_spike(two_layers: Graph) -> None:
    """A power-of-two neuron has none: the dense engine refuses it by name."""
    with pytest.raises(
        GraphError, match=r"node 'n1': a rate-coded pow2 neuron.*choose if or burst"
    ):
        DenseEngine(to_spiking(two_layers, pow2(), coding=Constant()))


def test_real_numbers_and_wide_sums_are_refused(chain: Build, even_ladder: Build) -> None:
    ladder = even_ladder(3, 1, 1, 0, 4)
    graph = chain(
        (1,),
        ScaleShift(torch.tensor(2.0), torch.tensor(0)),
        ladder,
        Linear(torch.tensor([[2**51]]), None),
        READ,
        grid=Grid(Fraction(1), 0, 7),
    )
    refusals = certify(to_spiking(graph)).refusals
    assert "node 'n0': it computes with real numbers" in refusals
    assert "node 'n2': its sums may pass 53 bits" in refusals
    assert "node 'n3': its sums may pass 53 bits" in refusals
    assert len(refusals) == 3


def test_proofs_of_layers_say_what_they_rest_on(two_layers: Graph) -> None:
    """n1: sums within -21 .. 42: 7 bits. n3: waits for step 7, is final at 13."""
    first, second = certify(to_spiking(two_layers, IF(), schedule=Schedule.WAIT)).layers
    assert (first.node, first.gate, first.takes, first.final, first.sum_bits) == ("n1", 1, 7, 7, 7)
    assert (second.node, second.gate, second.takes, second.final) == ("n3", 7, 7, 13)
    assert first.ladder_hash == second.ladder_hash


def test_the_hash_sees_every_setting(two_layers: Graph) -> None:
    def changed_ladder(op: Ladder) -> Ladder:
        assert op.line is not None and op.smax is not None
        line = replace(op.line, start=op.line.start - 1)
        return replace(op, line=line, rungs=line.rungs(op.smin, op.smax))

    other = two_layers.map(
        lambda n: replace(n, op=changed_ladder(n.op)) if isinstance(n.op, Ladder) else n
    )
    networks = [
        to_spiking(two_layers),
        to_spiking(two_layers, STBIF()),
        to_spiking(two_layers, coding=BitPlane()),
        to_spiking(two_layers, schedule=Schedule.WAIT),
        to_spiking(other),
    ]
    assert len({network_hash(network) for network in networks}) == len(networks)
    assert network_hash(networks[0]) == network_hash(to_spiking(two_layers))


def stored(path: Path, network: SpikingNetwork, **claims: Any) -> Path:
    """Saves a network with its certificate, some claims of which are changed."""
    save_network(path, network, {"certificate": {**certify(network).to_dict(), **claims}})
    return path


def test_a_certificate_survives_a_file(two_layers: Graph, tmp_path: Path) -> None:
    network = to_spiking(two_layers, STBIF(), BitPlane(), Schedule.WAIT)
    path = tmp_path / "net.safetensors"
    save_network(path, network, {"certificate": certify(network, 5).to_dict(), "origin": "test"})
    loaded, proof, notes = load_certified(path)
    assert proof == certify(network, 5) and proof.level == "B"
    assert notes["origin"] == "test"
    x = torch.tensor([[7.0, 0.0, 3.0], [1.0, 5.0, 2.0]])
    for engine in (ReferenceEngine, DenseEngine):
        assert torch.equal(engine(loaded).run(x, 40).outputs, engine(network).run(x, 40).outputs)


def test_one_row_ladders_can_be_stored(two_layers: Graph, tmp_path: Path) -> None:
    """A one-element column of a wider tensor has an odd stride; hash and file do not mind."""
    columns = torch.tensor([[5, 1, 2]]).unbind(1)

    def sliced(op: Ladder) -> Ladder:
        assert op.line is not None
        line = replace(op.line, threshold=columns[0], scale=columns[1], start=columns[2])
        return replace(op, line=line)

    graph = two_layers.map(lambda n: replace(n, op=sliced(n.op)) if isinstance(n.op, Ladder) else n)
    network = to_spiking(graph)
    loaded, _, _ = load_certified(stored(tmp_path / "net.safetensors", network))
    assert network_hash(loaded) == network_hash(network) == network_hash(to_spiking(two_layers))


@pytest.mark.parametrize(
    "claims",
    [
        {"level": "A", "refusals": []},
        {"steps_required": 1},
        {"steps_used": "thirteen"},
        {"network_hash": "0" * 64},
        {"layers": []},
    ],
    ids=lambda claims: next(iter(claims)),
)
def test_a_file_cannot_claim_more_than_is_proved(
    two_layers: Graph, tmp_path: Path, claims: dict[str, Any]
) -> None:
    path = stored(tmp_path / "net.safetensors", to_spiking(two_layers, IF()), **claims)
    with pytest.raises(InputError, match=r"net.safetensors: .*convert the model again"):
        load_certified(path)


def test_a_ladder_that_says_two_things_makes_no_network(two_layers: Graph) -> None:
    """Neurons follow rungs or the line: a network in which these differ has no one integer twin."""
    ladder = two_layers["n1"].op
    assert isinstance(ladder, Ladder) and ladder.rungs is not None and ladder.agrees
    odd = replace(ladder, rungs=ladder.rungs + 1)
    graph = two_layers.map(lambda node: replace(node, op=odd) if node.name == "n1" else node)
    with pytest.raises(GraphError, match=r"'n1' .Ladder.: its rungs are not those of its line"):
        to_spiking(graph)
    wide = replace(ladder, rungs=ladder.rungs.expand(3, -1))
    assert wide.agrees
    huge = Line(*(torch.tensor([value]) for value in (2**62, 1, 0)))
    assert not replace(ladder, line=huge).agrees  # 7 times 2**62 is not 64 bits


def test_a_linear_layer_over_positions_makes_no_network(chain: Build, even_ladder: Build) -> None:
    """Bounds of channels would be taken for those of positions."""
    weight = torch.tensor([[1, 0], [0, 1]])
    graph = chain((2, 2), Linear(weight, None), even_ladder(1, 1, 0, 0, 3), READ, grid=GRID)
    with pytest.raises(GraphError, match="'n0' .Linear.: .*a linear layer over 2 axes"):
        to_spiking(graph)


def test_no_certificate_no_certified_network(two_layers: Graph, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_network(path, to_spiking(two_layers), {})
    with pytest.raises(InputError, match="it has no certificate"):
        load_certified(path)


@pytest.mark.parametrize("where", [0.2, 0.6, 0.98])
def test_a_damaged_file_is_refused(two_layers: Graph, tmp_path: Path, where: float) -> None:
    """One byte changed in the header, the structure or a weight."""
    path = stored(tmp_path / "net.safetensors", to_spiking(two_layers))
    content = bytearray(path.read_bytes())
    content[int(where * len(content))] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"net.safetensors"):
        load_certified(path)


def test_certificates_are_plain_data(two_layers: Graph) -> None:
    plain = certify(to_spiking(two_layers)).to_dict()
    assert json.loads(json.dumps(plain)) == plain
