"""A soft reset made of NIR's own primitives: written, read and run, it is our soft reset exactly."""

import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spikemorph.convert import to_spiking
from spikemorph.graph.grid import Grid
from spikemorph.layers.ladder import Ladder
from spikemorph.layers.linear import Linear
from spikemorph.layers.readout import Readout
from spikemorph.spiking import ReferenceEngine, SpikingNetwork
from spikemorph.spiking.coding import Thermometer
from spikemorph.spiking.neurons import IF

nir = pytest.importorskip("nir", reason="pip install nir==1.0.8 (with h5py)")

GRID, STEPS = Grid.of(0.0, 1.0, bits=3), 40
Build = Callable[..., Any]


@pytest.fixture(params=[False, True], ids=["at the threshold", "above the threshold"])
def above(request: pytest.FixtureRequest) -> bool:
    """Whether a neuron needs more than its threshold to fire; ours fire at it."""
    return bool(request.param)


def network_of(seed: int, above: bool, chain: Build, even_ladder: Build) -> SpikingNetwork:
    """Two layers of soft-reset neurons without a top, on unit input spikes.

    Their level is ``floor((C + V0) / theta)``; above the threshold is ``V0 = -1``.
    """
    generator = torch.Generator().manual_seed(seed)
    shapes, start = ((9, 6), (5, 9)), -1 if above else 0
    first, second = (torch.randint(-6, 13, s, generator=generator) for s in shapes)
    neurons = [even_ladder(theta, 1, start, 0, None) for theta in (15, 21)]
    end = Readout(torch.tensor([1]), Fraction(1))
    layers = (Linear(first, None), neurons[0], Linear(second, None), neurons[1], end)
    return to_spiking(chain((6,), *layers, grid=GRID), IF(capped=False), Thermometer(7))


def events(network: SpikingNetwork, x: Tensor) -> Tensor:
    """(step, sample, cell) what enters, float32."""
    points = network.grid.to_integers(x)
    steps = range(1, STEPS + 1)
    return torch.stack([network.coding.at(points, k, network.grid) for k in steps]).float()


def composed(network: SpikingNetwork, path: Path) -> Any:
    """Every layer as Linear -> I -> Threshold, and Scale(-theta) back into I; written and read.

    NIR's threshold is passed strictly above. On whole numbers at theta is above theta - 1/2.
    """
    nodes, edges, before = {"input": nir.Input({"input": np.array([6])})}, [], "input"
    for node in network.graph.nodes:
        if isinstance(node.op, Linear):
            weight = nir.Linear(node.op.weight.numpy().astype(np.float32))
        if isinstance(node.op, Ladder):
            assert node.op.line is not None
            name, theta, size = node.name, float(node.op.line.threshold), len(weight.weight)
            full = np.ones(size, np.float32)
            shift = (float(node.op.line.start) + 1) / 2  # V0 = 0: 1/2 less; V0 = -1: theta
            nodes |= {
                f"{name}_w": weight,
                f"{name}_v": nir.I(r=full),
                f"{name}_z": nir.Threshold(full * (theta - shift)),
                f"{name}_back": nir.Scale(full * -theta),
            }
            edges += [(before, f"{name}_w"), (f"{name}_w", f"{name}_v"),
                      (f"{name}_v", f"{name}_z"), (f"{name}_z", f"{name}_back"),
                      (f"{name}_back", f"{name}_v")]  # fmt: skip
            before = f"{name}_z"
    nodes["output"] = nir.Output({"output": np.array([size])})
    nir.write(path, nir.NIRGraph(nodes, [*edges, (before, "output")]))
    return nir.read(path)


def plain(network: SpikingNetwork, path: Path) -> Any:
    """The same layers with NIR's own integrate-and-fire neuron; written and read."""
    nodes, edges, before = {"input": nir.Input({"input": np.array([6])})}, [], "input"
    for node in network.graph.nodes:
        if isinstance(node.op, Linear):
            nodes[f"{node.name}_w"] = nir.Linear(node.op.weight.numpy().astype(np.float32))
            edges.append((before, f"{node.name}_w"))
            before, size = f"{node.name}_w", len(node.op.weight)
        if isinstance(node.op, Ladder):
            assert node.op.line is not None
            full, zero = np.ones(size, np.float32), np.zeros(size, np.float32)
            theta = full * float(node.op.line.threshold)
            nodes[f"{node.name}_z"] = nir.IF(r=full, v_threshold=theta, v_reset=zero)
            edges.append((before, f"{node.name}_z"))
            before = f"{node.name}_z"
    nodes["output"] = nir.Output({"output": np.array([size])})
    nir.write(path, nir.NIRGraph(nodes, [*edges, (before, "output")]))
    return nir.read(path)


class Interpreter:
    """Runs a NIR graph in unit steps; an edge that closes a loop arrives one step later."""

    def __init__(self, graph: Any) -> None:
        self.nodes, self.after = graph.nodes, {name: [] for name in graph.nodes}
        for source, target in graph.edges:
            self.after[source].append(target)
        self.back: set[tuple[str, str]] = set()
        self.order: list[str] = []
        self._visit("input", ())
        self.order.reverse()
        self.state: dict[str, Tensor] = {}
        self.late: dict[str, Tensor | float] = {}

    def _visit(self, name: str, trail: tuple[str, ...]) -> None:
        for target in self.after[name]:
            if target in (*trail, name):
                self.back.add((name, target))
            elif target not in self.order:
                self._visit(target, (*trail, name))
        self.order.append(name)

    def step(self, x: Tensor) -> dict[str, Tensor]:
        """What every node sends, given what enters; (sample, cell)."""
        coming: dict[str, Any] = {"input": x, **self.late}
        sent: dict[str, Tensor] = {}
        self.late = {}
        for name in self.order:
            sent[name] = self._node(name, coming[name])
            for target in self.after[name]:
                into = self.late if (name, target) in self.back else coming
                into[target] = into.get(target, 0.0) + sent[name]
        return sent

    def _node(self, name: str, x: Tensor) -> Tensor:
        node, values = self.nodes[name], {}
        for key in ("weight", "r", "threshold", "scale", "v_threshold", "v_reset"):
            if hasattr(node, key):
                values[key] = torch.as_tensor(np.asarray(getattr(node, key)))
        match type(node).__name__:
            case "Input" | "Output":
                return x
            case "Linear":
                return x @ values["weight"].T
            case "Threshold":
                return (x > values["threshold"]).float()
            case "Scale":
                return x * values["scale"]
            case "I" | "IF" as kind:
                potential = self.state.get(name, 0.0) + values["r"] * x
                fired = potential > values.get("v_threshold", torch.inf)
                reset = values.get("v_reset", potential)
                self.state[name] = torch.where(fired, reset, potential)
                return fired.float() if kind == "IF" else potential
        raise NotImplementedError(type(node).__name__)


def run(graph: Any, entering: Tensor) -> dict[str, Tensor]:
    """(step, sample, cell) of every node."""
    interpreter = Interpreter(graph)
    made = [interpreter.step(x) for x in entering]
    return {name: torch.stack([now[name] for now in made]) for name in made[0]}


@pytest.mark.parametrize("seed", range(5))
def test_the_composed_soft_reset_is_ours(
    seed: int, above: bool, chain: Build, even_ladder: Build, tmp_path: Path
) -> None:
    """All spikes of both layers, 40 steps, 8 samples; a hard reset makes others."""
    network = network_of(seed, above, chain, even_ladder)
    x = torch.rand(8, 6, generator=torch.Generator().manual_seed(seed))
    trains = ReferenceEngine(network).run(x, STEPS, record=True).trains
    found = run(composed(network, tmp_path / "soft.nir"), events(network, x))
    assert all(bool(train.any()) for train in trains.values())
    for name, train in trains.items():
        assert torch.equal(found[f"{name}_z"].long(), train), name
    hard = run(plain(network, tmp_path / "hard.nir"), events(network, x))["output"]
    assert not torch.equal(hard.long(), trains["n3"])


def test_above_and_at_the_threshold_differ(chain: Build, even_ladder: Build) -> None:
    """Else the two cases above would test one thing."""
    x = torch.rand(8, 6, generator=torch.Generator().manual_seed(0))
    one, other = (
        ReferenceEngine(network_of(0, above, chain, even_ladder)).run(x, STEPS, record=True)
        for above in (False, True)
    )
    assert not torch.equal(one.trains["n1"], other.trains["n1"])


def test_the_file_holds_two_loops(chain: Build, even_ladder: Build, tmp_path: Path) -> None:
    """What NIR reads back: two loops, which the interpreter breaks at their Scale."""
    graph = composed(network_of(0, False, chain, even_ladder), tmp_path / "soft.nir")
    assert Interpreter(graph).back == {("n1_back", "n1_v"), ("n3_back", "n3_v")}
    assert len(graph.nodes) == 10 and len(graph.edges) == 11


def ready_made(*names: str, reason: str) -> tuple[Any, ...]:
    """Packages of others, or a skip; what they warn of when imported is theirs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tuple(pytest.importorskip(name, reason=reason) for name in names)


class Held(nn.Module):
    """nir.I for nirtorch: state in, state out."""

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        potential = x if state is None else state + x
        return potential, potential


class Elementwise(nn.Module):
    """A function of one tensor, for nirtorch."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def test_nirtorch_runs_the_composed_soft_reset(
    above: bool, chain: Build, even_ladder: Build, tmp_path: Path
) -> None:
    """With four lines of our own for the four primitives."""
    (nirtorch,) = ready_made("nirtorch", reason="pip install --no-deps nirtorch==2.6")
    network = network_of(0, above, chain, even_ladder)
    x = torch.rand(8, 6, generator=torch.Generator().manual_seed(0))
    rows: dict[Any, Callable[[Any], nn.Module]] = {
        nir.Linear: lambda node: Elementwise(lambda x: x @ torch.tensor(node.weight).T),
        nir.I: lambda node: Held(),
        nir.Threshold: lambda node: Elementwise(
            lambda x: (x > torch.tensor(node.threshold)).float()
        ),
        nir.Scale: lambda node: Elementwise(lambda x: x * torch.tensor(node.scale)),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, state, sent = (
            nirtorch.nir_to_torch(composed(network, tmp_path / "a.nir"), rows),
            None,
            [],
        )
        for now in events(network, x):
            out, state = model(now, state)
            sent.append(out)
    trains = ReferenceEngine(network).run(x, STEPS, record=True).trains
    assert torch.equal(torch.stack(sent).long(), trains["n3"])


def test_norse_reads_nirs_neuron_as_hard_reset_above_the_threshold(
    chain: Build, even_ladder: Build, tmp_path: Path
) -> None:
    """NIR's IF node does not say how to reset: norse sets the membrane to zero; ours would differ."""
    (norse,) = ready_made(
        "norse.torch",
        reason="pip install --no-deps norse==1.1.0 nirtorch==2.6 tqdm; and matplotlib",
    )
    network = network_of(0, True, chain, even_ladder)
    x = torch.rand(1, 6, generator=torch.Generator().manual_seed(0))
    graph, entering = plain(network, tmp_path / "hard.nir"), events(network, x)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        model, state, sent = norse.from_nir(graph), None, []
        for now in entering:
            out, state = model(now[0], state)  # it takes no batch
            sent.append(out)
    hard = run(graph, entering)["output"][:, 0]
    assert torch.equal(torch.stack(sent), hard) and bool(hard.any())
    soft = ReferenceEngine(network).run(x, STEPS, record=True).trains["n3"][:, 0]
    assert not torch.equal(hard.long(), soft)
