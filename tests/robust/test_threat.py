"""Random numbers belong to samples; a threat is a ball cut by the range of inputs."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.robust import Draws, Threat
from spikemorph.robust.threat import require_unit_range

MANY = Draws.of(0, torch.arange(4000))
norms = st.sampled_from(["linf", "l2"])
sizes = st.floats(0, 1)
seeds = st.integers(0, 10**6)
few = settings(max_examples=20, deadline=None, derandomize=True)


def images(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


# Draws


def test_words_are_those_of_splitmix64() -> None:
    """The published sequence of seed 1234567; a uniform number is its first 24 bits."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    found = Draws(torch.tensor([1234567])).uniform(3)[0]
    assert found.tolist() == [(word >> 40) / 2**24 for word in published]


@few
@given(seeds, st.permutations(range(6)), st.integers(1, 6))
def test_numbers_belong_to_the_sample_not_to_its_batch(
    seed: int, order: list[int], count: int
) -> None:
    chosen = torch.tensor(order[:count])
    whole, part = Draws.of(seed, torch.arange(6)), Draws.of(seed, chosen)
    for one, other in ((whole.rows(chosen), part), (whole.fork("a").rows(chosen), part.fork("a"))):
        assert torch.equal(one.uniform(2, 3), other.uniform(2, 3))
        assert torch.equal(one.normal(5), other.normal(5))
        assert torch.equal(one.below(7, 4), other.below(7, 4))
        assert torch.equal(one.signs(4), other.signs(4))


def test_draws_use_nothing_up_and_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    assert torch.equal(MANY.normal(3), MANY.normal(3))
    assert torch.equal(torch.get_rng_state(), before)


def test_forks_seeds_and_samples_differ() -> None:
    streams = [MANY, MANY.fork("a"), MANY.fork("b"), MANY.fork(1), Draws.of(1, torch.arange(4000))]
    words = torch.cat([stream.below(2**50, 5).flatten() for stream in streams])
    assert len(words.unique()) == len(words)


def test_numbers_are_spread_as_promised() -> None:
    """Means and variances within five standard errors of 20000 numbers."""
    n = 4000 * 5
    uniform, normal = MANY.uniform(5).flatten(), MANY.normal(5).flatten()
    assert uniform.min() >= 0 and uniform.max() < 1
    assert abs(float(uniform.mean()) - 0.5) < 5 * math.sqrt(1 / 12 / n)
    assert abs(float(normal.mean())) < 5 / math.sqrt(n)
    assert abs(float(normal.var()) - 1) < 5 * math.sqrt(2 / n)
    assert abs(float((normal**4).mean()) - 3) < 5 * math.sqrt(96 / n)
    assert set(MANY.signs(5).unique().tolist()) == {-1.0, 1.0}
    assert abs(float(MANY.signs(5).mean())) < 5 / math.sqrt(n)
    counts = MANY.below(10, 5).flatten().bincount(minlength=10)
    assert len(counts) == 10 and float((counts - n / 10).abs().max()) < 5 * math.sqrt(n * 0.09)


def test_positions_and_samples_are_uncorrelated() -> None:
    """|r| < 5 / sqrt(n): between neighbouring positions, neighbouring samples, and forks."""
    numbers, other = MANY.uniform(2), MANY.fork("other").uniform(2)
    pairs = [
        (numbers[:, 0], numbers[:, 1]),
        (numbers[:-1, 0], numbers[1:, 0]),
        (numbers[:, 0], other[:, 0]),
    ]
    for a, b in pairs:
        assert abs(float(torch.corrcoef(torch.stack([a, b]))[0, 1])) < 5 / math.sqrt(3999)


# Threat


@few
@given(norms, sizes, seeds)
def test_projection_is_allowed_and_leaves_what_is_allowed(norm: str, eps: float, seed: int) -> None:
    threat, clean = Threat(norm, eps), images(seed, 5, 2, 3)
    x = clean + 3 * (images(seed + 1, 5, 2, 3) - 0.5)
    once = threat.project(x, clean)
    threat.check(once, clean)
    torch.testing.assert_close(threat.project(once, clean), once, rtol=0, atol=1e-6)
    assert torch.equal(threat.project(clean, clean), clean)


@few
@given(norms, st.floats(0.01, 0.3), seeds)
def test_no_allowed_image_is_nearer_than_the_projection(norm: str, eps: float, seed: int) -> None:
    """Where the ball lies inside [0, 1]; an allowed rival is drawn by the threat itself."""
    threat, clean = Threat(norm, eps), torch.full((4, 6), 0.5)
    x = clean + 3 * (images(seed, 4, 6) - 0.5)
    rival = threat.start(clean, Draws.of(seed, torch.arange(4)))
    nearest, other = (threat.project(x, clean) - x).norm(dim=1), (rival - x).norm(dim=1)
    assert bool((nearest <= other + 1e-6).all())


@few
@given(norms, st.floats(-30, 10), seeds)
def test_the_steepest_step_has_length_one_however_small_the_gradient(
    norm: str, power: float, seed: int
) -> None:
    gradient = (images(seed, 4, 2, 3) - 0.5) * 10**power
    gradient[0] = 0
    step = Threat(norm, 0.1).steepest(gradient)
    lengths = Threat(norm, 0.1).distance(step, torch.zeros_like(step))
    torch.testing.assert_close(lengths, torch.tensor([0.0, 1, 1, 1]), rtol=0, atol=1e-5)
    assert bool(((step * gradient).flatten(1).sum(1)[1:] > 0).all())


def test_the_steepest_step_by_hand() -> None:
    """(3, -4) / 5 and its signs; what is not a number is no direction."""
    gradient = torch.tensor([[3.0, -4.0, math.nan]])
    torch.testing.assert_close(Threat("l2", 1).steepest(gradient), torch.tensor([[0.6, -0.8, 0.0]]))
    assert Threat("linf", 1).steepest(gradient).tolist() == [[1.0, -1.0, 0.0]]


def test_starts_are_uniform_in_the_ball() -> None:
    """In d dimensions (r / eps)**d is uniform: mean 1/2; so is each pixel for "linf"."""
    clean, bound = torch.full((4000, 3), 0.5), 5 * math.sqrt(1 / 12 / 4000)
    ball = Threat("l2", 0.2)
    radius = ball.distance(ball.start(clean, MANY), clean) / 0.2
    assert abs(float((radius**3).mean()) - 0.5) < bound
    cube = (Threat("linf", 0.2).start(clean, MANY) - clean) / 0.2
    assert float((cube.abs().mean(0) - 0.5).abs().max()) < bound
    assert float(cube.abs().max()) <= 1 + 1e-5


def test_the_radius_of_a_start_does_not_depend_on_its_direction() -> None:
    clean = torch.full((4000, 3), 0.5)
    change = Threat("l2", 0.2).start(clean, MANY) - clean
    radius = change.norm(dim=1)
    share = change[:, 0].abs() / radius
    assert abs(float(torch.corrcoef(torch.stack([radius, share]))[0, 1])) < 5 / math.sqrt(4000)


@few
@given(norms, sizes, seeds)
def test_starts_are_allowed(norm: str, eps: float, seed: int) -> None:
    threat, clean = Threat(norm, eps), images(seed, 3, 2, 2)
    threat.check(threat.start(clean, Draws.of(seed, torch.arange(3))), clean)


@pytest.mark.parametrize("value", [0.5 + 0.1 + 1e-4, -0.01, math.nan, 2.0])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_image_out_of_bounds_is_named(norm: str, value: float) -> None:
    clean = torch.full((3, 4), 0.5)
    x = clean.clone()
    Threat(norm, 0.1).check(x, clean)
    x[2, 1] = value
    with pytest.raises(InputError, match="sample 2: the attack left its bounds"):
        Threat(norm, 0.1).check(x, clean)


def test_pixel_units_are_asked_about() -> None:
    with pytest.raises(InputError, match=r"did you mean 8/255\? Give it so"):
        Threat("linf", 8)


@pytest.mark.parametrize("eps", [-0.1, math.nan, math.inf])
def test_an_eps_that_is_no_distance_is_refused(eps: float) -> None:
    with pytest.raises(InputError, match="give a finite number of 0 or more"):
        Threat("l2", eps)


def test_an_unknown_norm_is_refused() -> None:
    with pytest.raises(InputError, match="norm 'l1': choose linf or l2"):
        Threat("l1", 0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [-0.1, 1.01, math.nan])
def test_inputs_outside_the_unit_range_are_named(value: float) -> None:
    x = torch.rand(3, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    require_unit_range(x)
    x[1, 0, 0, 1] = value
    with pytest.raises(InputError, match=r"sample 1: .* put the normalisation inside the model"):
        require_unit_range(x)


def test_large_images_stay_within_an_l2_ball() -> None:
    """Rounded away from the clean image, 150,528 pixels together left it by more than the slack."""
    clean, threat = 0.25 + images(0, 2, 3, 224, 224) / 2, Threat("l2", 0.5)
    draw = torch.Generator().manual_seed(2)
    way = threat.steepest(torch.randn(clean.shape, generator=draw))
    allowed = threat.project(clean + 2 * threat.eps * way, clean)
    threat.check(allowed, clean)
    exact = (allowed.double() - clean.double()).flatten(1).norm(dim=1)
    assert exact.tolist() == pytest.approx([0.5, 0.5], abs=2e-5)
