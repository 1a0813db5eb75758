"""Laws of connections with fixed signs: DEEP R keeps every layer's count, BCS the sum of all."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from helpers import draw
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.optim import SGD

from spikemorph.graph import Graph, InputError
from spikemorph.layers.activation import ReLU
from spikemorph.layers.linear import Linear
from spikemorph.layers.masks import masks_of, weight_of
from spikemorph.prune import Lesson, PruneTask, Uniform
from spikemorph.prune.deepr_connections import (
    FIRST_STRENGTH,
    Sharing,
    Signed,
    Walk,
    at_random,
    signed_module,
)
from spikemorph.prune.rewiring_methods import Bcs, Budget, DeepR, in_place, shares
from spikemorph.train import DataTensors, GraphModule, TrainSettings, fit
from spikemorph.train.companion import Moment
from spikemorph.train.masked import mask_in


def coins(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


DATA = DataTensors(draw(60, 10, seed=8), torch.arange(60) % 3)
SETTINGS = TrainSettings(epochs=4, batch=10, rate=0.2, decay=0.01)


@pytest.fixture
def graph(chain: Callable[..., Graph]) -> Graph:
    first, second = Linear(draw(16, 10) / 3, draw(16)), Linear(draw(3, 16) / 4, draw(3))
    return chain((10,), first, ReLU(), second)


def row(
    chain: Callable[..., Graph], values: list[float], mask: list[int]
) -> tuple[GraphModule, Moment]:
    """One output's connections, and a moment at rate 0.1 with momentum 1 everywhere."""
    graph = chain((len(values),), Linear(torch.tensor([values]), None))
    module = signed_module(graph, {"n0": torch.tensor([mask], dtype=torch.bool)}, coins())
    optimizer = SGD(module.parameters(), lr=0.1, momentum=0.9)
    weight = module.weight("n0")
    optimizer.state[weight]["momentum_buffer"] = torch.ones_like(weight)
    return module, Moment(module, optimizer, coins(1), 1, 10, 0.1)


def test_strengths_and_signs_make_the_weights_that_were_given(graph: Graph) -> None:
    mask = {"n0": draw(16, 10, seed=3) > 0, "n2": draw(3, 16, seed=4) > 0}
    module = signed_module(graph, mask, coins())
    made = module.to_graph()
    for name in mask:
        assert torch.equal(weight_of(made[name]), weight_of(graph[name]) * mask[name])
        assert module.weight(name)[mask[name]].min() > 0


def test_signs_are_drawn_where_weights_are_zero(chain: Callable[..., Graph]) -> None:
    weight = torch.cat([torch.zeros(1, 400), torch.tensor([[2.0, -2.0]])], 1)
    graph = chain((402,), Linear(weight, None))
    layer = signed_module(graph, {"n0": weight == weight}, coins()).transform("n0")
    assert isinstance(layer, Signed)
    assert layer.sign.abs().eq(1).all()
    assert 150 < int((layer.sign[0, :400] > 0).sum()) < 250
    assert layer.sign[0, 400:].tolist() == [1, -1]


def test_a_strength_that_reaches_zero_disconnects_and_another_takes_its_place(
    chain: Callable[..., Graph],
) -> None:
    """l1 3 at rate 0.1 takes 0.3 from strengths 1, 0.3, 0.5: the second is gone, one other comes."""
    module, moment = row(chain, [1.0, -0.3, -0.5, 9.0, -9.0], [1, 1, 1, 0, 0])
    Walk(("n0",), noise=0.0, l1=3.0, sharing=in_place).after_update(moment)
    strength, mask = module.weight("n0").detach()[0], mask_in(module, "n0")[0]
    assert int(mask.sum()) == 3
    assert mask[0]
    assert mask[2]
    new = int((mask & torch.tensor([0, 1, 0, 1, 1], dtype=torch.bool)).nonzero()[0, 0])
    wanted = torch.tensor([0.7, 0.0, 0.2, 0.0, 0.0])
    wanted[new] = FIRST_STRENGTH
    torch.testing.assert_close(strength, wanted, atol=1e-7, rtol=0)
    assert strength[new] > 0
    momentum = moment.optimizer.state[module.weight("n0")]["momentum_buffer"][0]
    assert momentum.tolist() == [1, 0, 1, 0, 0]
    signs = weight_of(module.to_graph()["n0"])[0].sign()
    assert signs[[0, 2]].tolist() == [1, -1]


def test_a_connection_that_was_just_lost_may_come_back(chain: Callable[..., Graph]) -> None:
    """Where everything is connected, no other place is free: it starts anew where it was."""
    module, moment = row(chain, [1.0, -0.3, -0.5], [1, 1, 1])
    Walk(("n0",), noise=0.0, l1=3.0, sharing=in_place).after_update(moment)
    assert mask_in(module, "n0").all()
    assert module.weight("n0")[0, 1].item() == pytest.approx(FIRST_STRENGTH)
    momentum = moment.optimizer.state[module.weight("n0")]["momentum_buffer"][0]
    assert momentum.tolist() == [1, 0, 1]


def test_gradients_reach_connected_strengths_only(chain: Callable[..., Graph]) -> None:
    module, _ = row(chain, [1.0, -2.0, 3.0], [1, 1, 0])
    module(torch.tensor([[5.0, 7.0, 9.0]])).sum().backward()
    gradient = module.weight("n0").grad
    assert gradient is not None
    assert gradient.tolist() == [[5.0, -7.0, 0.0]]


def test_the_random_step_has_the_noise_that_was_asked_for(chain: Callable[..., Graph]) -> None:
    """Standard deviation rate x noise = 0.1 x 0.02 where connected; mean -rate l1."""
    count = 20000
    module, moment = row(chain, [1.0] * count, [1] * (count - 1) + [0])
    Walk(("n0",), noise=0.02, l1=0.5, sharing=in_place).after_update(moment)
    moved = module.weight("n0").detach()[0, :-1] - 1
    assert moved.std().item() == pytest.approx(0.002, rel=0.03)
    assert moved.mean().item() == pytest.approx(-0.05, rel=0.01)
    assert module.weight("n0")[0, -1] == 0


@dataclass
class Watch:
    """A walk whose every step is looked at."""

    walk: Walk
    counts: list[list[int]] = field(default_factory=list)
    masks: list[list[Tensor]] = field(default_factory=list)

    def before_update(self, moment: Moment) -> bool:
        return self.walk.before_update(moment)

    def after_update(self, moment: Moment) -> None:
        self.walk.after_update(moment)
        module = moment.model
        assert isinstance(module, GraphModule)
        masks = [mask_in(module, name).clone() for name in self.walk.names]
        for name, mask in zip(self.walk.names, masks, strict=True):
            weight = module.weight(name)
            momentum = moment.optimizer.state[weight]["momentum_buffer"]
            assert (weight[mask] > 0).all()
            assert not weight[~mask].any()
            assert not momentum[~mask].any()
        self.counts.append([int(mask.sum()) for mask in masks])
        self.masks.append(masks)


def watched(graph: Graph, sharing: Sharing, masks: dict[str, Tensor]) -> tuple[Watch, GraphModule]:
    module = signed_module(graph, masks, coins())
    watch = Watch(Walk(tuple(masks), noise=0.02, l1=1e-3, sharing=sharing))
    fit(module, DATA, SETTINGS, companion=watch)
    return watch, module


def halves() -> dict[str, Tensor]:
    return {"n0": draw(16, 10, seed=5) > 0, "n2": draw(3, 16, seed=6) > 0}


def test_deep_r_keeps_every_layers_count_and_every_sign(graph: Graph) -> None:
    masks = halves()
    signs = {n: t.sign.clone() for n, t in transforms(signed_module(graph, masks, coins()))}
    watch, module = watched(graph, in_place, masks)
    wanted = [int(mask.sum()) for mask in masks.values()]
    assert watch.counts == [wanted] * 24
    assert not torch.equal(watch.masks[0][0], watch.masks[-1][0])
    for name, layer in transforms(module):
        assert torch.equal(layer.sign, signs[name])
        weight = weight_of(module.to_graph()[name])
        assert torch.equal(weight.sign(), signs[name] * layer.mask)


def transforms(module: GraphModule) -> list[tuple[str, Signed]]:
    found = []
    for name in ("n0", "n2"):
        layer = module.transform(name)
        assert isinstance(layer, Signed)
        found.append((name, layer))
    return found


def test_bcs_keeps_the_sum_and_lets_layers_differ(graph: Graph) -> None:
    masks = halves()
    watch, _ = watched(graph, Budget(at_least=1), masks)
    total = sum(int(mask.sum()) for mask in masks.values())
    assert {sum(counts) for counts in watch.counts} == {total}
    assert len({tuple(counts) for counts in watch.counts}) > 1


def test_a_layer_that_lost_everything_gets_one_back_first() -> None:
    """Layers of 4 and 1,000,000 positions lost 2 and 3: chance alone would give the small none."""
    layers = {
        "small": Signed(torch.tensor([1, 1, 0, 0], dtype=torch.bool), torch.ones(4)),
        "large": Signed(torch.arange(10**6) < 10, torch.ones(10**6)),
    }
    stays = {"small": torch.zeros(4, dtype=torch.bool), "large": torch.arange(10**6) < 7}
    assert Budget(1)(layers, stays, coins()) == {"small": 1, "large": 4}
    assert Budget(0)(layers, stays, coins()) == {"small": 0, "large": 5}


@settings(max_examples=100, deadline=None)
@given(
    layers=st.lists(st.tuples(st.integers(1, 30), st.integers(0, 30)), min_size=1, max_size=5),
    share=st.floats(0, 1),
    seed=st.integers(0, 9),
)
def test_shares_sum_to_the_count_and_fit_the_room(
    layers: list[tuple[int, int]], share: float, seed: int
) -> None:
    size = torch.tensor([most for most, _ in layers])
    room = torch.tensor([min(most, free) for most, free in layers])
    count = int(share * int(room.sum()))
    found = shares(size, room, count, coins(seed))
    assert int(found.sum()) == count
    assert (found >= 0).all()
    assert (found <= room).all()


def test_shares_are_in_proportion_to_sizes() -> None:
    """Sizes 1 : 3 of 8,000: 2,000 expected, standard deviation 39."""
    found = shares(torch.tensor([10**5, 3 * 10**5]), torch.tensor([10**5] * 2), 8000, coins())
    assert abs(int(found[0]) - 2000) < 160


def test_new_connections_are_drawn_from_free_places_all_alike() -> None:
    free = torch.tensor([[1, 0, 1], [1, 1, 0]], dtype=torch.bool)
    hits = sum(at_random(free, 2, coins(seed)).int() for seed in range(400))
    assert not hits[~free].any()  # type: ignore[index]
    assert (hits[free] - 200).abs().max() < 50  # type: ignore[index]
    assert not at_random(free, 0, coins()).any()
    assert torch.equal(at_random(free, 4, coins()), free)


@pytest.mark.parametrize("method", [DeepR(noise=0.02), Bcs(noise=0.02)], ids=["deepr", "bcs"])
def test_the_graph_holds_as_many_non_zero_weights_as_connections(
    graph: Graph, method: DeepR | Bcs
) -> None:
    task = PruneTask(graph, 0.75, Uniform(), Lesson(DATA, SETTINGS))
    found = method(task)
    masks = masks_of(found)
    assert sum(int(mask.sum()) for mask in masks.values()) == 40 + 12
    assert all(torch.equal(weight_of(found[name]) != 0, mask) for name, mask in masks.items())


@pytest.mark.parametrize("method", [DeepR, Bcs])
@pytest.mark.parametrize("wrong", [{"noise": -1.0}, {"l1": -1.0}])
def test_walks_that_cannot_be_are_refused(
    method: type[DeepR | Bcs], wrong: dict[str, float]
) -> None:
    with pytest.raises(InputError, match="give a noise and an l1 of 0 or more"):
        method(**wrong)
