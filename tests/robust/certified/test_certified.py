"""Certified is never more than the truth, which is known where all images of a ball can be tried."""

from fractions import Fraction
from itertools import product

import pytest
import torch
from growing import NONE, ONE
from torch import Tensor

from spikemorph.convert import certify, to_spiking
from spikemorph.graph import Graph, GraphError, Input, InputError, Node, Op
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import run_integers
from spikemorph.layers import Add, Convolution, Ladder, Linear, MaxPool, Readout, Reshape, SumPool
from spikemorph.layers.boxes import Box, edge_boxes
from spikemorph.layers.ladder import Line
from spikemorph.robust.attacks.pgd import Pgd
from spikemorph.robust.cascade.block_files import evaluate_blocks, in_memory, merge_blocks
from spikemorph.robust.cascade.worst_case import worst_case
from spikemorph.robust.certified.ball import Ball
from spikemorph.robust.certified.evaluation import Certification, Certified
from spikemorph.robust.certified.proof import METHODS
from spikemorph.robust.draws import Draws
from spikemorph.robust.paths.exact import exact_target
from spikemorph.robust.threat import Threat
from spikemorph.spiking import ReferenceEngine
from spikemorph.spiking.neurons import STBIF, pow2

GRID = Grid.of(0.0, 1.0, 3)  # eight points


def whole(low: int, high: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randint(low, high + 1, shape, generator=torch.Generator().manual_seed(seed))


def ladder(seed: int, top: int = 4) -> Ladder:
    line = Line(whole(3, 9, 2, seed=seed), torch.tensor([1]), whole(0, 3, 2, seed=seed + 1))
    return Ladder(line.rungs(0, top), 0, top, Fraction(1), line)


def tiny(seed: int) -> Graph:
    """2 x 2 pixels; a residual sum, pools of both kinds, three classes."""
    same = ((0, 1), (0, 1))
    first = Convolution(
        whole(-2, 3, 2, 1, 2, 2, seed=seed), whole(-4, 4, 2, seed=seed), ONE, same, ONE
    )
    second = Convolution(whole(-2, 2, 2, 2, 1, 1, seed=seed + 1), None, ONE, NONE, ONE)
    nodes = (
        Node("x", Input((1, 2, 2), GRID)),
        Node("c", first, ("x",)), Node("a", ladder(seed), ("c",)),
        Node("d", second, ("a",)), Node("s", Add((torch.tensor(1), torch.tensor(2))), ("d", "a")),
        Node("b", ladder(seed + 2), ("s",)),
        Node("p", MaxPool((1, 2), ONE, NONE, ONE), ("b",)), Node("q", SumPool((2, 1), ONE, NONE), ("p",)),
        Node("f", Reshape((2,)), ("q",)),
        Node("y", Linear(whole(-5, 5, 3, 2, seed=seed + 3), whole(-3, 3, 3, seed=seed)), ("f",)),
        Node("r", Readout(torch.tensor([1, 2, 1]), Fraction(1, 3)), ("y",)),
    )  # fmt: skip
    return Graph(nodes, ("x",), ("r",))


def with_ops(graph: Graph, **ops: Op) -> Graph:
    """The graph with other ops at some nodes."""
    return graph.map(lambda n: Node(n.name, ops.get(n.name, n.op), n.inputs))


POINTS = torch.tensor(list(product(range(8), repeat=4))).reshape(-1, 1, 2, 2)


def samples(graph: Graph, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images between the grid's points, with the network's own answers but for some."""
    x = torch.rand((count, 1, 2, 2), generator=torch.Generator().manual_seed(seed))
    y = run_integers(graph, GRID.to_integers(x)).argmax(1)
    y[::7] = (y[::7] + 1) % 3
    return x, y


BALLS = tuple(Ball((eps,)) for eps in (0.02, 0.08, 0.15, 0.3))


def found(graph: Graph, x: Tensor, y: Tensor, method: str) -> Certified:
    return in_memory(Certification("tiny", "hash", graph, x, y, BALLS, method, block=16))


@pytest.mark.parametrize("seed", range(6))
def test_certified_is_at_most_what_every_image_of_the_ball_gives(seed: int) -> None:
    """And lines prove no less than intervals; something is proved, and something is not."""
    graph = tiny(11 * seed)
    x, y = samples(graph, 40, seed)
    answers = run_integers(graph, POINTS)
    values = GRID.to_values(POINTS, torch.float64)
    best = {method: found(graph, x, y, method) for method in METHODS}
    for at, ball in enumerate(BALLS):
        truth = torch.zeros(len(x), dtype=torch.bool)
        for k in range(len(x)):
            near = ((values - x[k]).abs() <= ball.largest + float(GRID.step) / 2).flatten(1).all(1)
            rivals = answers[near].clone()
            rivals[:, y[k]] = -(10**6)
            truth[k] = bool((answers[near, y[k]] > rivals.amax(1)).all())
        for method in METHODS:
            assert not bool((best[method].certified[:, at] & ~truth).any())
    assert bool((best["lines"].certified | ~best["intervals"].certified).all())
    assert torch.equal(best["lines"].intervals, best["intervals"].certified)


def test_lines_prove_more_and_something_stays_open() -> None:
    counts = torch.zeros(2, len(BALLS), dtype=torch.int64)
    for seed in range(6):
        graph = tiny(11 * seed)
        both = [found(graph, *samples(graph, 40, seed), method) for method in METHODS]
        counts += torch.stack([one.certified.sum(0) for one in both])
    assert bool((counts[1] > counts[0]).any()) and 0 < int(counts[1, -1]) < int(counts[1, 0]) < 240


def test_no_certified_image_is_broken_by_an_attack() -> None:
    graph = tiny(33)
    network = to_spiking(graph)
    x, y = samples(graph, 60, 3)
    proved = found(graph, x, y, "lines")
    target = exact_target("tiny", network)
    for at, ball in enumerate(BALLS):
        threat = Threat("linf", ball.largest)
        attacks = (Pgd(threat, 10, threat.eps / 4),)
        worst = worst_case(target, attacks, x, y, Draws.of(0, torch.arange(len(x))))
        assert torch.equal(worst.clean, proved.clean)
        assert not bool((proved.certified[:, at] & ~worst.worst).any())
    assert not bool(worst.worst[worst.clean].all())  # the attack breaks some


@pytest.mark.parametrize("neuron", [pow2(), STBIF()])
def test_settled_spikes_of_any_image_lie_in_the_boxes(neuron: object) -> None:
    """From its certified step on, every node of the spiking network."""
    graph = tiny(33)
    network = to_spiking(graph, neuron)  # type: ignore[arg-type]
    steps = certify(network).steps_required
    assert steps is not None
    x, _ = samples(graph, 8, 5)
    ball = Ball((0.1,))
    boxes = {node.name: box for node, box in edge_boxes(graph, ball.box(graph.entry, x))}
    for seed in range(5):
        draws = torch.Generator().manual_seed(seed)
        moved = (x + 0.1 * (2 * torch.rand(x.shape, generator=draws) - 1)).clamp(0, 1)
        trace = ReferenceEngine(network).run(moved, steps + 2, record=True)
        for name in ("a", "b"):
            levels = trace.trains[name].cumsum(0)
            for late in levels[steps - 1 :]:
                assert bool(boxes[name].holds(late).all())
        assert bool(boxes["r"].holds(trace.outputs[-1]).all())


def test_a_ball_s_box_is_what_its_images_are_rounded_to() -> None:
    entry = Input((1, 1, 2), Grid.of(-1.0, 2.0, 6))
    assert entry.grid is not None
    grid = entry.grid
    x = torch.tensor([[[[0.0, 0.37]]], [[[1.0, 0.5]]]])
    box = Ball((0.05,)).box(entry, x)
    for share in torch.linspace(-1, 1, 401, dtype=torch.float64):
        moved = (x.double() + 0.05 * share).clamp(0, 1)
        for kind in (torch.float32, torch.float64):
            codes = grid.to_integers(grid.interval.from_unit(moved.to(kind)))
            assert bool(box.holds(codes).all())
    ends = [(x.double() + end).clamp(0, 1) for end in (-0.05, 0.05)]
    codes = [grid.to_integers(grid.interval.from_unit(end)) for end in ends]
    assert float((box.lower - codes[0]).abs().max()) <= 1  # and no wider
    assert float((box.upper - codes[1]).abs().max()) <= 1
    assert float(box.lower[0].min()) == grid.low and float(box.upper[1].max()) == grid.high


def test_channels_have_their_own_eps() -> None:
    entry = Input((2, 1, 1), Grid.of(0.0, 1.0, 8))
    box = Ball((0.0, 0.1)).box(entry, torch.full((1, 2, 1, 1), 0.5))
    assert box.radius.flatten().tolist() == [0.5, 25.5]  # half way between points: either of them


def test_a_killed_certification_goes_on_and_shares(tmp_path: object) -> None:
    graph = tiny(33)
    x, y = samples(graph, 50, 2)

    def made() -> Certification:
        return Certification("tiny", "hash", graph, x, y, BALLS, "lines", block=8)

    def killed(done: float) -> None:
        if done >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_blocks(made(), tmp_path, watch=killed)  # type: ignore[arg-type]
    assert evaluate_blocks(made(), tmp_path) == (3, 4, 5, 6)  # type: ignore[arg-type]
    merged, whole_run = merge_blocks(made(), tmp_path), in_memory(made())  # type: ignore[arg-type]
    for name in ("clean", "intervals", "certified", "rival", "short"):
        assert torch.equal(getattr(merged, name), getattr(whole_run, name)), name
    assert made().key != Certification("tiny", "hash", graph, x, y, BALLS, "intervals", block=8).key


@pytest.mark.parametrize(
    ("eps", "words"),
    [((), "none: give a share"), ((1.5,), "1.5: give a share"), ((-0.1,), "-0.1: give a share"),
     ((0.1, 0.2), "2 numbers for inputs of shape \\(1, 2, 2\\).*each of 1 channels")],
)  # fmt: skip
def test_no_ball(eps: tuple[float, ...], words: str) -> None:
    graph = tiny(0)
    with pytest.raises(InputError, match=words):
        Certification("t", "h", graph, *samples(graph, 4, 0), (Ball(eps),))


def test_what_cannot_be_certified_is_named() -> None:
    graph = tiny(0)
    x, y = samples(graph, 4, 0)
    with pytest.raises(InputError, match="growing"):
        Certification("t", "h", graph, x, y, BALLS[::-1])
    with pytest.raises(InputError, match="0 samples"):
        Certification("t", "h", graph, x[:0], y[:0], BALLS)
    wide = with_ops(graph, y=Linear(torch.full((3, 2), 2**52), None))
    with pytest.raises(GraphError, match="node 'y'.*bits in which bounds are exact"):
        Certification("t", "h", wide, x, y, BALLS)
    readout = Readout(torch.tensor([1]), Fraction(1))
    one = with_ops(graph, y=Linear(whole(1, 2, 1, 2), None), r=readout)
    with pytest.raises(GraphError, match="node 'r'.*no classes"):
        Certification("t", "h", one, x, y, BALLS)


def test_an_eps_below_one_step_says_so() -> None:
    assert "less than 0.143" in (Ball((0.1,)).remark(GRID) or "")
    assert Ball((0.2,)).remark(GRID) is None


def test_boxes_of_no_radius_are_points() -> None:
    graph = tiny(5)
    for node, box in edge_boxes(graph, Box(POINTS[:9].double(), POINTS[:9].double())):
        assert torch.equal(box.lower, box.upper), node.name
