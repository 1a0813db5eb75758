"""Laws of masked training: gradients masked before momentum, masks that move by rule only."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from helpers import draw
from lightning_fabric import Fabric
from torch import Generator, Tensor, nn
from torch.optim import SGD

from spikemorph.graph import Graph, GraphError, InputError
from spikemorph.layers.activation import ReLU
from spikemorph.layers.linear import Linear
from spikemorph.layers.masks import masks_of
from spikemorph.prune import Lesson, PruneTask
from spikemorph.prune.gradual import Gradual
from spikemorph.prune.masked import masked_module, train_masked, train_module
from spikemorph.prune.rewiring import Rewiring
from spikemorph.prune.rewiring_methods import Rigl, Set, at_random, by_gradient
from spikemorph.train import CrossEntropy, DataTensors, GraphModule, TrainSettings, fit
from spikemorph.train.checkpoint import load_checkpoint
from spikemorph.train.companion import Companion, Moment
from spikemorph.train.masked import Masked, mask_in

DATA = DataTensors(draw(60, 10, seed=8), torch.arange(60) % 3)
SETTINGS = TrainSettings(epochs=4, batch=10, rate=0.2, decay=0.01)  # 6 steps an epoch


@pytest.fixture
def graph(chain: Callable[..., Graph]) -> Graph:
    first, second = Linear(draw(16, 10) / 3, draw(16)), Linear(draw(3, 16) / 4, draw(3))
    return chain((10,), first, ReLU(), second)


def half(graph: Graph) -> dict[str, Tensor]:
    coins = torch.Generator().manual_seed(2)
    return {
        "n0": torch.rand((16, 10), generator=coins) < 0.5,
        "n2": torch.rand((3, 16), generator=coins) < 0.5,
    }


@dataclass
class Watch:
    """Passes on to another companion and looks at masks, weights and momentum after every step."""

    inner: Companion | None = None
    masks: list[dict[str, Tensor]] = field(default_factory=list)
    moved: int = 0

    def before_update(self, moment: Moment) -> bool:
        return True if self.inner is None else self.inner.before_update(moment)

    def after_update(self, moment: Moment) -> None:
        if self.inner is not None:
            self.inner.after_update(moment)
        module = moment.model
        assert isinstance(module, GraphModule)
        for name in ("n0", "n2"):
            mask, weight = mask_in(module, name), module.weight(name)
            momentum = moment.optimizer.state[weight].get("momentum_buffer")
            assert not weight[~mask].any()
            assert momentum is None or not momentum[~mask].any()
            self.moved += momentum is not None and bool(momentum[mask].all())
        self.masks.append({name: mask_in(module, name).clone() for name in ("n0", "n2")})


def test_momentum_and_weights_stay_zero_outside_a_mask(graph: Graph) -> None:
    """With momentum and weight decay, at every step; inside, everything moves."""
    masks = half(graph)
    watch = Watch()
    module = masked_module(graph, masks)
    fit(module, DATA, SETTINGS, companion=watch)
    assert len(watch.masks) == 24
    assert watch.moved == 48
    assert all(torch.equal(seen[name], masks[name]) for seen in watch.masks for name in masks)


def test_training_under_a_mask_returns_the_very_mask(graph: Graph) -> None:
    masks = half(graph)
    found = train_masked(graph, masks, Lesson(DATA, SETTINGS))
    assert {n: m.tolist() for n, m in masks_of(found).items()} == {
        n: m.tolist() for n, m in masks.items()
    }


@dataclass(frozen=True)
class Vandal:
    """An objective that damages a masked module behind the loop's back."""

    damage: Callable[[GraphModule], None]

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
        inner = getattr(model, "module", model)
        assert isinstance(inner, GraphModule)
        self.damage(inner)
        return CrossEntropy()(model, x, y, generator)


def test_a_mask_that_moves_by_itself_is_a_defect(graph: Graph) -> None:
    def flip(module: GraphModule) -> None:
        mask_in(module, "n2").logical_not_()

    settings = TrainSettings(epochs=1, batch=20)  # three steps: the mask ends up flipped
    with pytest.raises(GraphError, match="'n2': its mask moved in epoch 1"):
        train_masked(graph, half(graph), Lesson(DATA, settings, Vandal(flip)))


def test_a_weight_outside_its_mask_is_a_defect(graph: Graph) -> None:
    def spoil(module: GraphModule) -> None:
        module.weight("n0").data.add_(1)

    module = masked_module(graph, half(graph))
    lesson = Lesson(DATA, SETTINGS, Vandal(spoil))
    with pytest.raises(GraphError, match="'n0': weights outside its mask are not zero after epoch"):
        train_module(module, half(graph), lesson, Watchless())


class Watchless:
    """A companion that does nothing, so that masks might move."""

    def before_update(self, moment: Moment) -> bool:
        return True

    def after_update(self, moment: Moment) -> None:
        pass


def moment_of(module: GraphModule, step: int, steps: int) -> Moment:
    optimizer = SGD(module.parameters(), lr=0.1, momentum=0.9)
    for weight in module.parameters():
        optimizer.state[weight]["momentum_buffer"] = torch.ones_like(weight)
    return Moment(module, optimizer, torch.Generator().manual_seed(0), step, steps, 0.1)


def one_row(chain: Callable[..., Graph]) -> GraphModule:
    """y = 4 x0 + x1 - 3 x2, positions 3 to 5 pruned; it notes its gradient."""
    weight = torch.tensor([[4.0, 1.0, -3.0, 7.0, 7.0, 7.0]])
    mask = torch.tensor([[1, 1, 1, 0, 0, 0]], dtype=torch.bool)
    return masked_module(chain((6,), Linear(weight, None)), {"n0": mask}, noting=True)


def test_rigl_drops_the_smallest_and_grows_the_largest_gradient(
    chain: Callable[..., Graph],
) -> None:
    """A third of three weights is one: position 1 goes; dL/dw = x grows position 4, not the dropped.

    The update of this step is left out; dropped and grown weights are zero, without momentum.
    """
    module = one_row(chain)
    module(torch.tensor([[9.0, 9.0, 9.0, 1.0, -5.0, 2.0]])).sum().backward()
    moment = moment_of(module, step=1, steps=10**9)
    rewiring = Rewiring(by_gradient, every=1, share=0.34, end=1.0)
    assert rewiring.before_update(moment) is False
    assert mask_in(module, "n0").int().tolist() == [[1, 0, 1, 0, 1, 0]]
    assert module.weight("n0").tolist() == [[4, 0, -3, 0, 0, 0]]
    momentum = moment.optimizer.state[module.weight("n0")]["momentum_buffer"]
    assert momentum.tolist() == [[1, 0, 1, 0, 0, 0]]
    rewiring.after_update(moment)  # the next step's gradient is a new sum
    layer = module.transform("n0")
    assert isinstance(layer, Masked)
    assert layer.dense_gradient is None


def test_the_dense_gradient_is_that_of_the_whole_loss(chain: Callable[..., Graph]) -> None:
    """Clean and adversarial passes add up; a pass for an attack's gradient at x is not counted."""
    module = one_row(chain)
    clean, attacked = draw(2, 6, seed=1), draw(2, 6, seed=2).requires_grad_()
    torch.autograd.grad(module(attacked).sum(), attacked)
    (module(clean).sum() + 3 * module(attacked).sum()).backward()
    layer = module.transform("n0")
    assert isinstance(layer, Masked)
    assert layer.dense_gradient is not None
    wanted = (clean + 3 * attacked).detach().sum(0, keepdim=True)
    torch.testing.assert_close(layer.dense_gradient, wanted)
    kept = mask_in(module, "n0")
    gradient = module.weight("n0").grad
    assert gradient is not None
    torch.testing.assert_close(gradient, wanted * kept)
    assert not gradient[~kept].any()
    layer.forget()
    assert layer.dense_gradient is None


@pytest.mark.parametrize("growth", [by_gradient, at_random], ids=["rigl", "set"])
def test_rewiring_moves_masks_and_keeps_every_layers_count(
    graph: Graph, growth: Callable[..., Tensor]
) -> None:
    """Steps 4, 8, ... up to 70 % of 24 rewire; all other steps leave the masks as they are."""
    masks = half(graph)
    watch = Watch(Rewiring(growth, every=4, share=0.4, end=0.7))
    fit(masked_module(graph, masks, noting=True), DATA, SETTINGS, companion=watch)
    before = masks
    for step, seen in enumerate(watch.masks, start=1):
        for name, mask in seen.items():
            count, last = int(before[name].sum()), 0.7 * 24
            assert int(mask.sum()) == count
            share = 0.4 * (1 + math.cos(math.pi * step / last)) / 2 if step < last else 0
            moved = int(share * count) if step % 4 == 0 else 0
            assert int((before[name] & ~mask).sum()) == moved
            assert int((mask & ~before[name]).sum()) == moved
        before = seen
    assert any(not torch.equal(before[name], masks[name]) for name in masks)


@pytest.mark.slow
def test_two_processes_grow_what_one_grows(graph: Graph, tmp_path: Path) -> None:
    """Each has half of every batch; the gradient that decides is that of both."""

    def share(fabric: Fabric) -> None:
        Rigl(every=2)(replace(task, lesson=replace(lesson, checkpoint=path, fabric=fabric)))

    path = tmp_path / "run"
    lesson = Lesson(DATA, replace(SETTINGS, epochs=1))
    task = PruneTask(graph, 0.7, lesson=lesson)
    alone = masks_of(Rigl(every=2)(task))
    Fabric(accelerator="cpu", devices=2, strategy="ddp_fork").launch(share)
    state = load_checkpoint(path)["model"]
    together = [value for key, value in state.items() if key.endswith(".mask")]
    assert all(torch.equal(a, b) for a, b in zip(together, alone.values(), strict=True))


def test_gradual_pruning_follows_its_cubic(graph: Graph) -> None:
    """At step t of 12 (half the run) a share 0.8 (1 - (1 - t / 12)^3) is gone; none comes back."""
    seen: list[dict[str, Tensor]] = []

    @dataclass(frozen=True)
    class Look:
        def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
            inner = getattr(model, "module", model)
            assert isinstance(inner, GraphModule)
            seen.append({name: mask_in(inner, name).clone() for name in ("n0", "n2")})
            return CrossEntropy()(model, x, y, generator)

    task = PruneTask(graph, 0.8, lesson=Lesson(DATA, SETTINGS, Look()))
    found = masks_of(Gradual(every=3, end=0.5)(task))
    kept = [sum(int(mask.sum()) for mask in masks.values()) for masks in (*seen, found)]
    total = 16 * 10 + 3 * 16
    for step, count in enumerate(kept):
        last = min(12, step - step % 3)
        share = 0.8 * (1 - (1 - last / 12) ** 3)
        assert count == math.floor((1 - share) * total + 1e-6)
    for one, other in zip(seen, seen[1:], strict=False):
        assert all(not bool((other[name] & ~one[name]).any()) for name in one)


@pytest.mark.parametrize(
    "wrong",
    [{"every": 0}, {"share": 1.5}, {"end": 0.0}, {"end": 1.5}, {"share": math.nan}],
)
@pytest.mark.parametrize("method", [Rigl, Set])
def test_rewiring_that_cannot_be_is_refused(
    graph: Graph, method: type[Rigl | Set], wrong: dict[str, float]
) -> None:
    task = PruneTask(graph, 0.5, lesson=Lesson(DATA, SETTINGS))
    with pytest.raises(InputError, match="give every >= 1, 0 <= share <= 1 and 0 < end <= 1"):
        method(**wrong)(task)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"every": 0}, {"end": 0.0}, {"end": 1.1}])
def test_schedules_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="give every >= 1 steps and an end in 0 < end <= 1"):
        Gradual(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", [Rigl, Set])
def test_a_run_too_short_to_rewire_is_refused(graph: Graph, method: type[Rigl | Set]) -> None:
    """Never moving a mask would be magnitude pruning under another name; 24 steps end at 18."""
    task = PruneTask(graph, 0.5, lesson=Lesson(DATA, SETTINGS))
    with pytest.raises(InputError, match="a run of 24 steps is too short to rewire every 18"):
        method(every=18)(task)
    method(every=17)(task)
