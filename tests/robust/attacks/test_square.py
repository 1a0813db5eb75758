"""Attacks without gradients: allowed, per sample, counted, and as good as a linear model allows."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.robust import Draws, Threat, attacks
from spikemorph.robust.attacks.autoattack import standard
from spikemorph.robust.attacks.best_image import QuerySearch
from spikemorph.robust.attacks.pgd import Pgd
from spikemorph.robust.attacks.random_noise import Noise
from spikemorph.robust.attacks.square import (
    Square,
    _bump,
    _half,
    _sides,
    _window,
    as_images,
    image_shape,
)
from spikemorph.robust.attacks.transfer import Transfer, transfer_from

LINF, L2 = Threat("linf", 0.1), Threat("l2", 0.5)
SHAPES = [(1, 8, 8), (3, 9, 6), (12,), (2, 2, 6, 6)]


def draws_of(n: int, seed: int = 0) -> Draws:
    return Draws.of(seed, torch.arange(n))


def inside(n: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Images at least 0.25 away from 0 and 1."""
    return 0.25 + 0.5 * draws_of(n, seed).fork("images").uniform(*shape)


def linear(
    shape: tuple[int, ...], lead: float, seed: int = 3
) -> tuple[Callable[..., Tensor], Tensor]:
    """Two logits: `lead`, and w (x - 1/2) with weights w that are smooth, so that squares help."""
    weights = Draws.of(seed, torch.arange(1)).normal(*shape)[0].double().cumsum(-1)

    def model(x: Tensor) -> Tensor:
        score = ((x.double() - 0.5) * weights).flatten(1).sum(1)
        return torch.stack([torch.full_like(score, lead), score], dim=1)

    return model, weights


def labels(n: int) -> Tensor:
    return torch.zeros(n, dtype=torch.int64)


def test_schedule_halves_where_the_paper_says() -> None:
    square = Square(LINF, queries=10_000)
    starts = (0, 11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001)
    for k, start in enumerate(starts):
        assert square.share(start) == 0.8 / 2**k
        if k:
            assert square.share(start - 1) == 0.8 / 2 ** (k - 1)
    halfway = Square(LINF, queries=5000, rescale=True)  # proposal 6 of 5000 is 12 of 10,000
    assert (halfway.share(5), halfway.share(6)) == (0.8, 0.4)
    assert Square(LINF, queries=5000).share(6) == 0.8


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("threat", [LINF, L2], ids=lambda t: t.norm)
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 10**6), eps=st.floats(0, 1))
def test_images_are_allowed(threat: Threat, shape: tuple[int, ...], seed: int, eps: float) -> None:
    threat = Threat(threat.norm, eps)
    model, _ = linear(shape, 100.0)
    x = draws_of(3, seed).uniform(*shape)
    attacks_here = [Noise(threat, draws=4)]
    if threat.norm == "linf" or min(image_shape(shape)[1:]) >= 5:
        attacks_here += [Square(threat, queries=6)]
    for attack in attacks_here:
        found = attack(model, x, labels(3), draws_of(3, seed))
        threat.check(found, x)
        assert found.shape == x.shape


@pytest.mark.parametrize("threat", [LINF, L2], ids=lambda t: t.norm)
def test_a_sample_alone_is_attacked_as_in_a_batch(threat: Threat) -> None:
    model, _ = linear((2, 8, 8), 3.0)
    x, y, draws = inside(4, (2, 8, 8)), labels(4), draws_of(4)
    for attack in (Square(threat, queries=30), Noise(threat, draws=6)):
        together = attack(model, x, y, draws)
        for k in range(4):
            row = torch.tensor([k])
            alone = attack(model, x[row], y[row], draws.rows(row))
            assert torch.equal(alone[0], together[k]), (attack.name, k)


@pytest.mark.parametrize("threat", [LINF, L2], ids=lambda t: t.norm)
def test_queries_are_counted_and_broken_samples_are_left_alone(threat: Threat) -> None:
    shape = (1, 8, 8)
    threat = Threat(threat.norm, threat.eps / 5)
    model, _ = linear(shape, 0.0)
    x, seen = inside(12, shape), [0]

    def counting(images: Tensor) -> Tensor:
        seen[0] += len(images)
        return model(images)

    search = Square(threat, queries=30).search(counting, x, labels(12), draws_of(12))
    right = model(x).argmax(1) == 0
    broken = model(search.images).argmax(1) != 0
    assert 0 < int(right.sum()) < 12 and int((broken & right).sum()) > 0
    assert seen[0] == 12 + int(search.queries.sum())
    assert bool((search.queries[~right] == 0).all()) and torch.equal(
        search.images[~right], x[~right]
    )
    assert sorted(search.left.tolist()) == (~broken).nonzero()[:, 0].tolist()
    assert bool((search.queries[search.left] == 30).all())
    assert bool((search.queries[broken & right] <= 30).all())
    for k in (broken & right).nonzero()[:, 0].tolist():  # it stopped at the query that broke it
        row, needed = torch.tensor([k]), int(search.queries[k])
        if needed > 1:
            less = Square(threat, queries=needed - 1)(
                model, x[row], labels(1), draws_of(12).rows(row)
            )
            assert model(less).argmax(1).item() == 0


@pytest.mark.parametrize(("threat", "share"), [(LINF, 0.6), (L2, 0.5)], ids=["linf", "l2"])
def test_square_gets_near_the_optimum_of_a_linear_model(threat: Threat, share: float) -> None:
    """The most a score can grow is eps |w|_1 for "linf" and eps |w|_2 for "l2"."""
    model, weights = linear((1, 8, 8), 1e6)  # never broken: all queries are used
    x = inside(4, (1, 8, 8))
    best = threat.eps * float(weights.abs().sum() if threat.norm == "linf" else weights.norm())
    gains = []
    for queries in (1, 50, 400):
        found = Square(threat, queries=queries)(model, x, labels(4), draws_of(4))
        gains.append((model(found) - model(x))[:, 1] / best)
    assert bool((gains[0] <= gains[1]).all() and (gains[1] <= gains[2]).all())
    assert bool((gains[2] >= share).all() and (gains[2] <= 1 + 1e-6).all()), gains
    assert float(gains[0].mean()) < share / 2


def test_noise_is_uniform_and_at_the_border_by_turns() -> None:
    images: list[Tensor] = []
    model, _ = linear((1, 8, 8), 1e6)

    def recording(x: Tensor) -> Tensor:
        images.append(x)
        return model(x)

    x = inside(3, (1, 8, 8))
    Noise(LINF, draws=4)(recording, x, labels(3), draws_of(3))
    gaps = [(image - x).abs() for image in images[1:]]
    assert all(float(gap.min()) > LINF.eps - 1e-6 for gap in gaps[1::2])
    assert all(0.3 < float(gap.mean() / LINF.eps) < 0.7 for gap in gaps[::2])
    assert not torch.equal(images[1], images[3]) and not torch.equal(images[2], images[4])
    images.clear()
    Noise(L2, draws=2)(recording, x, labels(3), draws_of(3))
    torch.testing.assert_close(L2.distance(images[2], x), torch.full((3,), L2.eps))
    assert bool((L2.distance(images[1], x) < L2.eps).all())


def test_more_noise_is_never_less_damaging() -> None:
    model, _ = linear((1, 8, 8), 1e6)
    x = inside(5, (1, 8, 8))
    margins = [
        Noise(LINF, draws=n).search(model, x, labels(5), draws_of(5)).margins for n in (1, 5, 25)
    ]
    assert bool((margins[0] <= margins[1]).all() and (margins[1] <= margins[2]).all())
    assert bool((margins[0] < margins[2]).any())


def test_hunt_prefers_what_fools_and_stops_there() -> None:
    def model(x: Tensor) -> Tensor:
        return torch.cat([torch.full_like(x, 0.5), x], dim=1)

    x = torch.tensor([[0.1], [0.2], [0.9]])
    search = QuerySearch.before(model, x, labels(3))
    assert search.left.tolist() == [0, 1]
    search = search.tried(model, torch.tensor([[0.05], [0.6]]), labels(3))
    assert search.images[:, 0].tolist() == pytest.approx([0.1, 0.6, 0.9])
    assert search.left.tolist() == [0] and search.queries.tolist() == [1, 1, 0]
    with pytest.raises(InputError, match="not finite"):
        search.tried(lambda x: model(x) * torch.nan, torch.zeros(1, 1), labels(3))


def test_transfer_breaks_what_hides_its_gradient() -> None:
    model, _ = linear((1, 8, 8), 3.0)
    x, y, draws = inside(8, (1, 8, 8)), labels(8), draws_of(8)

    def masked(images: Tensor) -> Tensor:
        return model((images.detach() * 4095).round() / 4095)

    right = int((masked(x).argmax(1) == 0).sum())
    by_itself = Pgd(LINF, steps=10)(masked, x, y, draws)
    transfer = transfer_from(model, LINF)
    found = transfer(masked, x, y, draws)
    LINF.check(found, x)
    assert right > 2
    assert int((masked(found).argmax(1) == 0).sum()) < int((masked(by_itself).argmax(1) == 0).sum())
    assert (transfer.name, transfer.gradients, transfer.threat) == ("transfer", False, LINF)
    away = Transfer(lambda x: -model(x), Pgd(LINF, steps=5, last_iterate=True))
    worse = away(masked, x, y, draws)  # a source that points the wrong way does no good, nor harm
    assert bool((masked(worse)[:, 1] >= masked(x)[:, 1]).all())


@pytest.mark.parametrize("side", [1, 2, 3, 5, 8, 11])
def test_bumps_are_those_of_torchattacks(side: int) -> None:
    torchattacks = pytest.importorskip("torchattacks")
    here = SimpleNamespace(device="cpu")
    for rows in range(1, side + 1):
        wanted = torchattacks.Square.eta_rectangles(here, rows, side)
        torch.testing.assert_close(_half(rows, side).float(), wanted)
    assert float(_bump(side).norm()) == pytest.approx(1)
    if side % 2 == 0:
        assert float(_bump(side).sum()) == pytest.approx(0, abs=1e-6)


@given(st.integers(1, 12), st.integers(1, 12), st.floats(0.001, 1), st.floats(0, 0.9999))
def test_windows_stay_inside_and_reach_every_border(h: int, w: int, share: float, u: float) -> None:
    height, width = _sides(share, h, w)
    assert 1 <= height <= h and 1 <= width <= w
    for drawn, corner in ((0.0, 0), (0.99999, h * w - 1)):
        cells = _window(torch.tensor([[drawn, drawn]]), (h, w), (height, width))
        assert corner in cells.tolist()[0]
    cells = _window(torch.tensor([[u, 1 - u - 1e-5]]).clamp_min(0), (h, w), (height, width))
    assert int(cells.min()) >= 0 and int(cells.max()) < h * w
    assert len(set(cells.tolist()[0])) == height * width


def test_samples_of_any_rank_are_images() -> None:
    assert [image_shape(s) for s in ((5,), (4, 6), (3, 4, 6), (2, 3, 4, 6))] == [
        (1, 1, 5),
        (1, 4, 6),
        (3, 4, 6),
        (6, 4, 6),
    ]
    x = torch.arange(96.0).reshape(2, 2, 4, 6)
    assert torch.equal(as_images(x.transpose(2, 3)).flatten(1), x.transpose(2, 3).flatten(1))


def test_the_standard_cascade_has_reference_settings() -> None:
    pytest.importorskip("torchattacks")
    members = standard(LINF, 100)
    assert [member.name for member in members] == ["apgd-ce", "apgd-t", "fab-t", "square"]
    assert [getattr(member, "steps", None) for member in members] == [100, 100, 100, None]
    assert [getattr(member, "targets", None) for member in members] == [None, 9, 9, None]
    square = members[3]
    assert isinstance(square, Square)
    assert (square.queries, square.rescale, square.p_init) == (5000, False, 0.8)
    assert [getattr(m, "targets", None) for m in standard(L2, 4)] == [None, 3, 3, None]
    with pytest.raises(InputError, match="3 classes are too few for apgd-t"):
        standard(LINF, 3)


def test_tables_know_the_attacks() -> None:
    for name in ("square", "noise"):
        attack = attacks[name](L2)
        assert (attack.name, attack.threat, attack.gradients) == (name, L2, False)


def test_refusals() -> None:
    model, _ = linear((1, 4, 4), 1.0)
    x = inside(1, (1, 4, 4))
    with pytest.raises(InputError, match="at least 1 query"):
        Square(LINF, queries=0)
    with pytest.raises(InputError, match="p_init 1.5"):
        Square(LINF, queries=1, p_init=1.5)
    with pytest.raises(InputError, match="5 x 5"):
        Square(L2, queries=1)(model, x, labels(1), draws_of(1))
    with pytest.raises(InputError, match="at least 1"):
        Noise(LINF, draws=0)
    with pytest.raises(InputError, match="not in 0..1"):
        Noise(LINF, draws=1)(model, x * 255, labels(1), draws_of(1))
