"""Laws of the gradient paths of spiking networks that were trained through time."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spikemorph.graph import Graph, InputError
from spikemorph.layers.activation import ReLU
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.linear import Linear
from spikemorph.layers.shape import Reshape
from spikemorph.robust import Draws, Target, Threat
from spikemorph.robust.attacks.base import input_gradient
from spikemorph.robust.attacks.momentum_pgd import MomentumPgd
from spikemorph.robust.cascade.worst_case import worst_case
from spikemorph.robust.paths.by_name import STRONG, choose_paths
from spikemorph.robust.paths.through_time import (
    extra_paths,
    paper_paths,
    spiking_target,
    training_path,
)
from spikemorph.surrogate import Dynamics, SpikingModule
from spikemorph.surrogate.gradients import (
    Arctan,
    Exponential,
    PiecewiseLinear,
    Rectangular,
    StraightThrough,
)
from spikemorph.surrogate.replacement import Replacement


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def module(chain: Callable[..., Graph]) -> SpikingModule:
    """Two convolutions and a head on 6x6 images, V_th = 0.6 and 1, leaky."""
    graph = chain(
        (1, 6, 6),
        Convolution(normal(4, 1, 3, 3), normal(4, seed=1), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
        ReLU(),
        Convolution(normal(3, 4, 3, 3, seed=2) / 3, None, (2, 2), ((1, 1), (1, 1)), (1, 1), 1),
        ReLU(),
        Reshape((27,)),
        Linear(normal(5, 27, seed=3) / 5, None),
    )
    found = SpikingModule(graph, Dynamics(4, leak=0.9)).eval()
    with torch.no_grad():
        found.thresholds["n1"].fill_(0.6)
    return found


def images(count: int, seed: int = 7) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.rand(count, 1, 6, 6, generator=draws)


def gradient(logits: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Of the difference of the first two logits."""
    return input_gradient(logits, x, lambda z: z[:, 0] - z[:, 1])[0]


def test_the_papers_are_nineteen() -> None:
    paths = paper_paths()
    assert len(paths) == 19
    assert not set(paths) & set(extra_paths())
    kinds = [type(rule).__name__ for rule in paths.values()]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "PiecewiseLinear": 5,
        "Exponential": 6,
        "Rectangular": 5,
        "StraightThrough": 1,
        "RateThrough": 1,
        "Rectified": 1,
    }
    assert len(set(map(repr, paths.values()))) == 19


@pytest.mark.parametrize("name", paper_paths())
def test_a_paths_name_says_its_settings(name: str) -> None:
    kind, *numbers = name.split()
    families = {"pcw": PiecewiseLinear, "exp": Exponential, "rect": Rectangular}
    if kind in families:
        assert paper_paths()[name] == families[kind](*map(float, numbers))
    else:
        assert not numbers


def test_the_strongest_of_table_a1_stand_first() -> None:
    """The accuracies that FGSM at 8/255 leaves, column three of the table."""
    left = {
        "pcw 1": 54.81, "pcw 2": 68.01, "pcw 3": 75.65, "pcw 0.5": 54.87, "pcw 0.25": 84.04,
        "exp 0.3 0.5": 76.40, "exp 0.3 1": 62.90, "exp 0.3 2": 50.40, "exp 1 0.5": 82.38,
        "exp 1 1": 69.66, "exp 1 2": 53.44, "rect 0.25": 87.82, "rect 0.5": 70.84,
        "rect 1": 57.32, "rect 2": 70.93, "rect 4": 83.28, "ste": 88.83, "bptr": 57.20,
        "act": 70.84,
    }  # fmt: skip
    assert [left[name] for name in paper_paths()] == sorted(left.values())


def test_every_path_is_the_network_bit_for_bit(module: SpikingModule) -> None:
    target, x = spiking_target("toy", module), images(40)
    wanted = target.logits(x)
    assert torch.equal(wanted, module(x))
    assert len(target.paths) == 26
    for path in target.paths:
        assert path.exact and torch.equal(path.logits(x), wanted), path.name
        assert torch.equal(path.logits(x.clone().requires_grad_()), wanted), path.name
    assert {path.name for path in target.paths if path.stand_in} == {"act", "clip"}


def test_paths_have_gradients_that_differ(module: SpikingModule) -> None:
    target, x = spiking_target("toy", module), images(8)
    found = {path.name: gradient(path.logits, x) for path in target.paths}
    assert all(bool(g.isfinite().all()) and bool((g != 0).any()) for g in found.values())
    names = list(found)
    for k, name in enumerate(names):
        assert not any(torch.equal(found[name], found[other]) for other in names[:k]), name


def test_samples_that_share_a_batch_get_the_gradients_of_their_own_paths(
    module: SpikingModule,
) -> None:
    """Every path three times, shuffled, replacements among them."""
    target = spiking_target("toy", module)
    assert target.mixed is not None
    count = len(target.paths)
    order = torch.randperm(3 * count, generator=torch.Generator().manual_seed(2))
    which, x = order % count, images(3 * count)
    mixed = target.mixed
    together, logits = gradient(lambda z: mixed(z, which), x), mixed(x, which)
    for index, path in enumerate(target.paths):
        rows = (which == index).nonzero()[:, 0]
        alone = gradient(path.logits, x[rows])
        scale = float(alone.abs().max())
        torch.testing.assert_close(together[rows], alone, rtol=1e-5, atol=1e-6 * scale)
        torch.testing.assert_close(logits[rows], path.logits(x[rows]))


@pytest.mark.parametrize("name", ["pcw 1", "act"])
def test_one_path_alone_may_fill_a_shared_batch(module: SpikingModule, name: str) -> None:
    target = choose_paths(spiking_target("toy", module), name)
    assert target.mixed is not None
    x, which = images(5), torch.zeros(5, dtype=torch.int64)
    assert torch.equal(target.mixed(x, which), target.paths[0].logits(x))


def test_the_network_under_attack_is_left_alone(module: SpikingModule) -> None:
    """Also in training mode: what is attacked is the network in evaluation."""
    before = {key: value.clone() for key, value in module.state_dict().items()}
    target, x = spiking_target("toy", module), images(6)
    wanted = target.logits(x)
    module.train()
    for path in target.paths:
        gradient(path.logits, images(3, seed=1))
    assert module.training
    assert torch.equal(target.logits(x), wanted)
    module.eval()
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_the_surrogate_that_was_trained_with_is_always_a_path(module: SpikingModule) -> None:
    assert training_path(module) == "pcw 1"
    odd = SpikingModule(module.graph, module.dynamics, surrogate=Arctan(3.0)).eval()
    assert training_path(odd) == "trained"
    target, x = spiking_target("odd", odd), images(4)
    assert [path.name for path in target.paths][:2] == ["trained", "detached 0.5"]
    assert torch.equal(gradient(target.paths[0].logits, x), gradient(odd, x))
    few = spiking_target("odd", odd, {"ste": StraightThrough()})
    assert [path.name for path in few.paths] == ["ste"]


def named(target: Target) -> list[str]:
    return [path.name for path in target.paths]


def test_a_path_that_remembers_begins_anew_with_every_run(module: SpikingModule) -> None:
    target, x = spiking_target("toy", module), images(6)
    (path,) = (path for path in target.paths if path.begin is not None)
    assert path.name == "assg" and path.begin is not None
    run, other = path.begin(), path.begin()
    first, second = gradient(run, x), gradient(run, x)
    assert not torch.equal(first, second)
    for again in (gradient(other, x), gradient(path.logits, x), gradient(path.logits, x)):
        assert torch.equal(again, first)


def test_runs_of_a_path_that_remembers_keep_their_samples_to_the_end(module: SpikingModule) -> None:
    """Though some are broken long before; the cascade finds what one run over all samples finds."""
    target, x = choose_paths(spiking_target("toy", module), "assg"), images(12)
    y, draws, threat = (
        target.logits(x).argmax(1),
        Draws.of(0, torch.arange(12)),
        Threat("linf", 0.02),
    )
    attack = MomentumPgd(threat, steps=8)
    found = worst_case(target, (attack,), x, y, draws)
    (path,) = target.paths
    assert path.begin is not None
    alone = attack(path.begin(), x, y, draws.fork("pgd-margin/assg"))
    broken = target.logits(alone).argmax(1) != y
    assert torch.equal(found.worst, ~broken) and 0 < int(broken.sum()) < 12
    assert torch.equal(found.adversarial[broken], alone[broken])
    assert found.members[0].queries == 12 * 9


def test_paths_are_chosen_by_name(module: SpikingModule) -> None:
    target = spiking_target("toy", module)
    assert named(choose_paths(target, "all")) == named(target)
    assert named(choose_paths(target, "paper")) == list(paper_paths())
    assert named(choose_paths(target, "strong")) == named(target)[:STRONG]
    few = choose_paths(target, "bptr, exp-0.3-2,clip,pcw 1")
    assert named(few) == ["clip", "exp 0.3 2", "pcw 1", "bptr"]  # the target's order
    x, which = images(8), torch.arange(8) % 4
    assert few.mixed is not None
    mixed = few.mixed
    found = gradient(lambda z: mixed(z, which), x)
    for index, path in enumerate(few.paths):
        rows = which == index
        torch.testing.assert_close(found[rows], gradient(path.logits, x[rows]))


@pytest.mark.parametrize(
    ("wish", "complaint"),
    [
        (
            "pcw 7",
            r"'pcw 7' is not known here; choose all, strong, paper, or of: detached 0.5, detached 0.25",
        ),
        ("", "'' is not known"),
        ("ste,,bptr", "'' is not known"),
        ("ste,bptr,ste", "'ste' is given twice"),
    ],
)
def test_wrong_names_are_refused(module: SpikingModule, wish: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        choose_paths(spiking_target("toy", module), wish)


def test_a_target_without_the_papers_paths_says_so(module: SpikingModule) -> None:
    bare = Target("bare", module, ())
    assert choose_paths(bare, "all") == bare
    with pytest.raises(InputError, match="none, this network has no gradient"):
        choose_paths(bare, "paper")


def test_replacements_are_told_from_rules_of_gradients() -> None:
    every = {**paper_paths(), **extra_paths()}
    assert {n for n, rule in every.items() if isinstance(rule, Replacement)} == {"act", "clip"}
