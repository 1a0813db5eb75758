"""Training with bounds: they hold every output of their box; schedules are values; refusals."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikemorph.graph import Graph, InputError
from spikemorph.graph.grid import Grid
from spikemorph.layers.activation import ReLU
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.linear import Linear
from spikemorph.layers.shape import Reshape
from spikemorph.quant import Quantisation
from spikemorph.quant.learning import QuantisedModule
from spikemorph.robust.training.bounds import IntervalBounds, SmallBoxes, margins_of
from spikemorph.surrogate import Dynamics, SpikingModule
from spikemorph.train import DataTensors, GraphModule, TrainSettings, fit
from spikemorph.train.masked import Masked
from spikemorph.train.objectives import Scheduled, now


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def graph(chain: Callable[..., Graph]) -> Graph:
    return chain(
        (1, 6, 6),
        Convolution(
            normal(4, 1, 3, 3) / 3, normal(4, seed=1) / 9, (2, 2), ((1, 1), (1, 1)), (1, 1)
        ),
        ReLU(),
        Reshape((36,)),
        Linear(normal(8, 36, seed=2) / 6, None),
        ReLU(),
        Linear(normal(3, 8, seed=3) / 3, normal(3, seed=4) / 9),
    )


def images(count: int, seed: int = 7) -> Tensor:
    return torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(seed))


def modules(graph: Graph) -> tuple[nn.Module, ...]:
    return (
        GraphModule(graph).eval(),
        QuantisedModule(graph, images(40), Grid.of(0.0, 1.0), Quantisation()).eval(),
    )


def draws() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_margins_hold_every_image_of_the_box(graph: Graph) -> None:
    x, y = images(12), torch.arange(12) % 3
    for module in modules(graph):
        lower, upper = (x - 0.05).clamp(0, 1), (x + 0.05).clamp(0, 1)
        with torch.no_grad():
            bound = margins_of(module, lower, upper, y).double()
            least = torch.full((12, 3), torch.inf, dtype=torch.float64)
            for seed in range(60):
                inside = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed))
                at = lower + (upper - lower) * (inside if seed % 2 else inside.round())
                logits = module(at).double()
                least = torch.minimum(least, logits.gather(1, y[:, None]) - logits)
        assert bool((bound <= least + 1e-5).all())
        assert float((least - bound).mean()) < 1.0  # they are about this network, not about any
        assert bool((bound.gather(1, y[:, None]) == 0).all())


def test_without_a_box_the_loss_is_cross_entropy(graph: Graph) -> None:
    x, y = images(9), torch.arange(9) % 3
    for module in modules(graph):
        wanted = F.cross_entropy(module(x).float(), y)
        whole = IntervalBounds(8 / 255)
        for objective in (whole.at(0.0), SmallBoxes(8 / 255).at(0.0)):
            torch.testing.assert_close(objective(module, x, y, draws()), wanted)
        point = -margins_of(module, x, x, y)
        torch.testing.assert_close(F.cross_entropy(point.float(), y), wanted)


def test_the_loss_mixes_clean_images_and_boxes(graph: Graph) -> None:
    x, y = images(9), torch.arange(9) % 3
    module, _ = modules(graph)
    clean = F.cross_entropy(module(x), y).detach()
    lower, upper = (x - 0.1).clamp(0, 1), (x + 0.1).clamp(0, 1)
    boxes = F.cross_entropy(-margins_of(module, lower, upper, y), y).detach()
    assert float(boxes) > float(clean)
    found = IntervalBounds(0.1, beta=0.25)(module, x, y, draws())
    torch.testing.assert_close(found, 0.75 * boxes + 0.25 * clean)
    half = IntervalBounds(0.1, ramp=0.5).at(0.25)
    assert half.share == 0.5
    lower, upper = half.box(module, x, y, draws())
    torch.testing.assert_close(upper, (x + 0.05).clamp(0, 1))
    torch.testing.assert_close(lower, (x - 0.05).clamp(0, 1))


def test_eps_rises_over_the_ramp_and_stays() -> None:
    objective = IntervalBounds(0.1, ramp=0.4)
    assert isinstance(objective, Scheduled)
    shares = [now(objective, p).share for p in (0.0, 0.2, 0.4, 0.9)]  # type: ignore[attr-defined]
    assert shares == pytest.approx([0, 0.5, 1, 1])
    assert IntervalBounds(0.1, ramp=0.0).at(0.0).share == 1.0
    plain = object()
    assert now(plain, 0.3) is plain  # type: ignore[arg-type, comparison-overlap]


def test_small_boxes_lie_within_eps_and_around_bad_images(graph: Graph) -> None:
    x, y = images(20), torch.arange(20) % 3
    module, _ = modules(graph)
    lower, upper = SmallBoxes(0.1, beta=0.3, steps=3).box(module, x, y, draws())
    assert bool((lower >= (x - 0.1 - 1e-6).clamp_min(0)).all() and (upper <= x + 0.1 + 1e-6).all())
    assert float((upper - lower).max()) <= 0.06 + 1e-6
    middle = (lower + upper) / 2
    with torch.no_grad():
        assert float(F.cross_entropy(module(middle), y)) > float(F.cross_entropy(module(x), y))


def test_training_widens_what_is_proved_and_keeps_masks(graph: Graph) -> None:
    x = images(256)
    y = (x.mean((1, 2, 3)) * 60).long() % 3
    y = torch.where(x[:, 0, 0, 0] > 0.6, 2, torch.where(x[:, 0, 5, 5] > 0.5, 1, 0))
    mask = normal(8, 36, seed=9) > 0
    module = GraphModule(graph, {"n3": Masked(mask)})

    def proved() -> float:
        lower, upper = (x - 0.03).clamp(0, 1), (x + 0.03).clamp(0, 1)
        with torch.no_grad():
            others = margins_of(module, lower, upper, y).scatter(1, y[:, None], torch.inf)
        return float((others.amin(1) > 0).float().mean())

    before = proved()
    settings = TrainSettings(epochs=15, batch=32, rate=0.1, decay=0.0, clip=2.0)
    fit(module, DataTensors(x, y), settings, objective=IntervalBounds(0.03))
    assert proved() > before + 0.2
    trained = module.to_graph()["n3"].op
    assert isinstance(trained, Linear) and not bool(trained.weight[~mask].any())


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: IntervalBounds(0.0), "eps 0"),
        (lambda: IntervalBounds(8.0), "eps 8"),
        (lambda: IntervalBounds(0.1, beta=1.0), "beta 1"),
        (lambda: IntervalBounds(0.1, ramp=1.5), "ramp 1.5"),
        (lambda: SmallBoxes(0.1, beta=0.0), "beta 0"),
        (lambda: SmallBoxes(0.1, steps=0), "0 steps"),
    ],
)
def test_wrong_numbers_are_refused(make: Callable[[], object], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        make()


def test_networks_without_bounds_say_so(graph: Graph) -> None:
    x, y = images(2), torch.zeros(2, dtype=torch.int64)
    timed = SpikingModule(graph, Dynamics(2))
    assert isinstance(timed, GraphModule)
    with pytest.raises(InputError, match="bounds of a SpikingModule"):
        margins_of(timed, x, x, y)
