"""What was trained is what is exported, bit for bit; and training under quantisation pays."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import draw
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from spikemorph import load_graph
from spikemorph.convert import canonical
from spikemorph.graph import Graph, InputError, UnsupportedError
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import run_integers
from spikemorph.layers.activation import Clip, ReLU, Sigmoid
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.boxes import Box, edge_boxes
from spikemorph.layers.carriers import Products
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.joining import Add, Concat
from spikemorph.layers.ladder import Ladder
from spikemorph.layers.linear import Linear
from spikemorph.layers.margins import margins
from spikemorph.layers.masks import masks_of, weighted_nodes, with_masks
from spikemorph.layers.pooling import GlobalAverage, MaxPool, SumPool
from spikemorph.layers.readout import Readout, Softmax
from spikemorph.layers.shape import Reshape
from spikemorph.quant import Max, Quantisation, quantise_graph
from spikemorph.quant.exact_floats import through
from spikemorph.quant.learning import QuantisedModule, learn_quantised
from spikemorph.quant.learning_steps import LearntStep
from spikemorph.train import DataTensors, TrainSettings
from spikemorph.train.loop import DivergenceError
from spikemorph.zoo import load_data

Build = Callable[..., Any]
ONE, NONE, SAME = (1, 1), ((0, 0), (0, 0)), ((1, 1), (1, 1))
GRID = Grid.of(0.0, 1.0)


def uniform(*shape: int, seed: int = 5) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def settled(graph: Graph, x: Tensor, grid: Grid = GRID) -> Tensor:
    readout = graph[graph.outputs[0]].op
    assert isinstance(readout, Readout)
    return readout.real(run_integers(graph, grid.to_integers(x)))


def residual(chain: Build, seed: int = 0, factor: float = 1.0) -> Graph:
    """Two convolutions, their sum with a factor, a clip, a concatenation with the input, classes."""
    a, b, c = (draw(*s, seed=seed + i) for i, s in enumerate([(4, 2, 3, 3), (4, 4, 3, 3), (3, 10)]))
    graph: Graph = chain(
        (2, 4, 4),
        Convolution(a / 3, draw(4, seed=seed + 3) / 4, ONE, SAME, ONE),
        ReLU(),
        Convolution(b / 4, None, ONE, SAME, ONE),
        (Add((torch.tensor(1.0), torch.tensor(factor))), "n2", "n1"),
        Clip(0.0, 1.5),
        (Concat(1), "n4", "x", "n1"),
        MaxPool((2, 2), (2, 2), NONE, ONE),
        SumPool((2, 2), (1, 1), NONE),
        Reshape((10,)),
        Linear(c, draw(3, seed=seed + 4)),
    )
    return graph


def shaken(module: QuantisedModule, size: float, seed: int = 0) -> QuantisedModule:
    """The module with everything it learns moved."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=draw))
    return module


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 99), st.sampled_from([2, 3, 16, 300]), st.sampled_from([2, 4, 8, 16]),
    st.sampled_from([1, 8, 13]), st.sampled_from([1.0, -1.0, 2.0, 0.3]), st.sampled_from([0.0, 0.1, 0.4]),
)  # fmt: skip
def test_the_exported_graph_is_the_trained_network_bit_for_bit(
    chain: Build, seed: int, levels: int, bits: int, points: int, factor: float, size: float
) -> None:
    grid, x = Grid.of(0.0, 1.0, points), uniform(30, 2, 4, 4, seed=seed)
    graph = residual(chain, seed, factor)
    module = shaken(QuantisedModule(graph, x, grid, Quantisation(levels, bits)), size, seed).eval()
    assert torch.equal(module(x), settled(module.to_integers(), x, grid))
    shaken(module, size, seed + 1)  # the plan follows what has changed since
    assert torch.equal(module(x), settled(module.to_integers(), x, grid))


@pytest.mark.parametrize("factor", [1.0, -1.0])
def test_margins_are_those_of_the_exported_graph(chain: Build, factor: float) -> None:
    """And steps along their gradients make them greater."""
    x, labels = uniform(30, 2, 4, 4), torch.arange(30) % 3
    module = shaken(
        QuantisedModule(residual(chain, 0, factor), x, GRID, Quantisation()), 0.1
    ).eval()
    lower, upper = (x - 0.01).clamp(0, 1), (x + 0.01).clamp(0, 1)
    graph, found = module.to_integers(), module.margins(lower, upper, labels)
    readout = graph[graph.outputs[0]].op
    assert isinstance(readout, Readout)
    box = Box(*(GRID.to_integers(end).double() for end in (lower, upper)))
    boxes = {node.name: own for node, own in edge_boxes(graph, box)}
    wanted = margins(graph, boxes, labels) * float(readout.unit)
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-4)
    optimiser = torch.optim.Adam(module.parameters(), lr=0.02)
    for _ in range(20):
        optimiser.zero_grad()
        (-module.margins(lower, upper, labels).sum()).backward()
        assert all(p.grad is not None for p in module.parameters())
        optimiser.step()
    with torch.no_grad():
        assert float(module.margins(lower, upper, labels).sum()) > float(found.sum())


@pytest.mark.parametrize("name", ["digits_cnn", "digits_resnet"])
@pytest.mark.parametrize(("levels", "bits"), [(16, 8), (2, 2)])
def test_zoo_networks_start_as_after_quantisation_and_stay_exact(
    name: str, levels: int, bits: int
) -> None:
    x, graph = load_data("digits:train").values()[:150], canonical(load_graph(f"zoo:{name}").graph)
    chosen = Quantisation(levels, bits)
    module = QuantisedModule(graph, x[:100], GRID, chosen).eval()
    assert torch.equal(module(x), settled(quantise_graph(graph, x[:100], GRID, chosen), x))
    shaken(module, 0.03)
    assert torch.equal(module(x), settled(module.to_integers(), x))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(module(x), settled(module.to_integers(), x))


def ladders(module: QuantisedModule) -> list[tuple[Tensor, Tensor]]:
    """The rungs of every activation, as trained and as exported."""
    planned, exported = module._planned(module._learnt(), torch.device("cpu")), module.to_integers()
    found = []
    for name, line in planned.lines.items():
        op, steps = exported[name].op, planned.plan.steps[name]
        assert isinstance(op, Ladder) and op.rungs is not None
        assert (op.smin, op.smax) == (steps.smin, steps.smax) and steps.smax is not None
        found.append((line.rungs(steps.smin, steps.smax).expand_as(op.rungs), op.rungs))
    return found


@pytest.mark.parametrize("levels", [16, 256])
def test_a_pool_ahead_of_an_activation_is_exported_as_it_was_learnt(
    chain: Build, levels: int
) -> None:
    """The pool's 1/n stays the fraction that it is; outputs alone seldom show another."""
    graph = canonical(
        chain(
            (2, 7, 7),
            Convolution(draw(4, 2, 3, 3) / 4, draw(4, seed=1) / 4, ONE, SAME, ONE),
            GlobalAverage(),
            ReLU(),
            Reshape((4,)),
            Linear(draw(3, 4, seed=2), None),
        )
    )
    x = uniform(200, 2, 7, 7)
    module = shaken(QuantisedModule(graph, x, GRID, Quantisation(levels)), 0.1).eval()
    ((trained, exported),) = ladders(module)
    assert torch.equal(trained, exported)
    assert torch.equal(module(x), settled(module.to_integers(), x))


@pytest.mark.parametrize("move", [-1.0, 1.0, 3.0])
def test_a_step_grows_no_larger_than_the_end_that_has_levels(chain: Build, move: float) -> None:
    """Clipped to -3..1 and never negative in calibration: a step of 3 could not be reached."""
    weights = draw(4, 6).abs() / 2
    graph = chain((6,), Linear(weights, torch.zeros(4)), Clip(-3.0, 1.0), Linear(draw(3, 4), None))
    x = uniform(100, 6)
    module = QuantisedModule(graph, x, GRID, Quantisation(2, calibrator=Max())).eval()
    (clip,) = (step for step in module.steps.values() if step.limit < math.inf)
    with torch.no_grad():
        clip.theta.add_(move)
    ((trained, exported),) = ladders(module)
    assert torch.equal(trained, exported)
    assert torch.equal(module(x), settled(module.to_integers(), x))


def digits(count: int) -> DataTensors:
    samples = load_data("digits:train").take(count)
    return DataTensors(samples.values(), torch.as_tensor(samples.y).long())


def accuracy_of(graph: Graph, data: DataTensors) -> float:
    return float((settled(graph, data.x).argmax(1) == data.y).float().mean())


def test_training_under_quantisation_beats_quantising_afterwards() -> None:
    """Two levels and four bits: at least ten points better after two epochs over 600 samples."""
    graph, data = canonical(load_graph("zoo:digits_cnn").graph), digits(1000)
    train, test = data.rows(torch.arange(600)), data.rows(torch.arange(600, 1000))
    chosen = Quantisation(2, 4)
    before = accuracy_of(quantise_graph(graph, train.x[:200], GRID, chosen), test)
    after = learn_quantised(
        graph, train.x[:200], GRID, chosen, train, TrainSettings(2, 50, rate=0.02)
    )
    assert accuracy_of(after, test) >= before + 0.1


class Uphill:
    """An adversarial objective: the loss after one step of the input along its gradient's sign."""

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator
    ) -> Tensor:
        image = x.clone().requires_grad_()
        loss = nn.functional.cross_entropy(model(image), y)
        (gradient,) = torch.autograd.grad(loss, image)
        assert bool((gradient != 0).any())
        near = (x + 0.05 * gradient.sign()).clamp(0, 1)
        return nn.functional.cross_entropy(model(near), y)


def test_masks_hold_and_adversarial_objectives_reach_the_input(chain: Build) -> None:
    graph, x = residual(chain), uniform(60, 2, 4, 4)
    masks = {n.name: draw(*n.op.weight.shape, seed=3) > 0.5 for n in weighted_nodes(graph)}
    graph = with_masks(graph, masks)
    data = DataTensors(x, (x.mean((1, 2, 3)) > 0.5).long())
    lesson = TrainSettings(2, 20, rate=0.05)
    found = learn_quantised(graph, x, GRID, Quantisation(4), data, lesson, objective=Uphill())
    for name, mask in masks_of(found).items():
        assert torch.equal(mask, masks[name]) and not bool(found[name].op.weight[~mask].any())
    assert set(masks_of(found)) == set(masks)
    assert not torch.equal(
        settled(found, x), settled(quantise_graph(graph, x, GRID, Quantisation(4)), x)
    )


def test_one_step_by_hand(chain: Build) -> None:
    """Output w u F(w1 x / u): rounding pulls at u by (level - C s / u), clipping by the top level.

    With w = w1 = 1, levels 0..3, u = 1/4: x = 0.4 is level 2 at 1.6, so d out / d log u =
    u (2 - 1.6) = 0.1; x = 1 is clipped at level 3, so it is u 3 = 0.75.
    """
    one = Linear(torch.ones(1, 1), torch.zeros(1))
    grid = Grid.of(0.0, 1.0, 13)
    graph, x = chain((1,), one, ReLU(), one), torch.linspace(0, 0.75, 50)[:, None]
    module = QuantisedModule(graph, x, grid, Quantisation(4, 16, bias_correction=False))
    step = module.steps[module._index["n1"]]
    assert isinstance(step, LearntStep)
    step.initial.fill_(0.25)
    for point, wanted, slope in ((0.4, 0.1, 1.0), (1.0, 0.75, 0.0)):
        image = torch.tensor([[point]], requires_grad=True)
        out = module(image)
        pull, along = torch.autograd.grad(out.sum(), [step.theta, image])
        assert float(pull) == pytest.approx(wanted, abs=2e-3)
        assert float(along) == pytest.approx(slope, abs=2e-3)


def test_what_cannot_be_learnt_is_refused_by_name(chain: Build) -> None:
    one, x = Linear(draw(3, 3), None), uniform(20, 3)
    scale = ScaleShift(draw(3), draw(3, seed=2))
    odd = chain((3,), one, Sigmoid(), one, scale, ReLU(), one, Clip(0.5, 1.0), one, Softmax(1))
    with pytest.raises(UnsupportedError) as caught:
        QuantisedModule(odd, x, GRID, Quantisation())
    text = str(caught.value)
    for word in ("n3", "ScaleShift", "n6", "Clip", "n7", "Softmax"):
        assert word in text
    module = QuantisedModule(chain((3,), one, ReLU(), one), x, GRID, Quantisation())
    with pytest.raises(InputError, match="bf16-mixed"):
        module.to(torch.bfloat16)(x)
    with torch.no_grad():
        module.to(torch.float32).steps["2"].theta.fill_(9.0)  # type: ignore[union-attr]
    with pytest.raises(DivergenceError, match="learning rate"):
        module(x)


def test_products_that_round_are_found_out_and_done_in_float64(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A product through bfloat16 stands for a machine that rounds."""
    x, weight = torch.full((4, 3), 255.0), torch.full((2, 3), 127.0)
    assert Products()(Linear(weight, None), x, (255.0, 1e5)).dtype is torch.float32

    def rounding(op: Linear, x: Tensor) -> Tensor:
        y = nn.functional.linear(x, op.weight.to(x))
        return y.to(torch.bfloat16).to(x) if x.dtype is torch.float32 else y

    monkeypatch.setattr(Linear, "products", rounding)
    found = Products()(Linear(weight, None), x, (255.0, 1e5))
    assert found.dtype is torch.float64 and bool((found == 3 * 255 * 127).all())


def test_through_has_the_value_of_one_and_the_gradient_of_the_other() -> None:
    soft = torch.tensor([0.3, 0.7], requires_grad=True)
    out = through(torch.tensor([1.0, -2.0]), 3 * soft)
    out.sum().backward()
    assert out.tolist() == [1.0, -2.0] and soft.grad is not None and soft.grad.tolist() == [3, 3]
