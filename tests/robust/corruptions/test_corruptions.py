"""Corruptions: allowed images, per sample, worse with severity, and by hand where that is short."""

import pytest
import torch
from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.robust import Draws
from spikemorph.robust.corruptions.accuracy import (
    NAMES,
    corrupt,
    corruption_accuracy,
    corruption_hits,
    corruption_result,
)
from spikemorph.robust.corruptions.blur import _taken_over
from spikemorph.robust.corruptions.filters import gaussian, shifted, smear
from spikemorph.robust.corruptions.table import corruptions

each = pytest.mark.parametrize("name", NAMES)


def draws_of(n: int) -> Draws:
    return Draws.of(0, torch.arange(n))


def pictures(n: int, *shape: int) -> Tensor:
    """Smooth random images over the whole range."""
    x = gaussian(draws_of(n).uniform(*shape), 1.0)
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    return (x - low) / (high - low)


def flat(n: int, value: float, *shape: int) -> Tensor:
    return torch.full((n, *shape), value)


def test_all_fifteen_are_there() -> None:
    assert len(NAMES) == 15 and set(corruptions) == set(NAMES)


@each
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 14)], ids=str)
def test_images_stay_images_and_samples_stay_apart(name: str, shape: tuple[int, ...]) -> None:
    x, draws = pictures(3, *shape), draws_of(3)
    for severity in (1, 5):
        found = corrupt(name, x, severity, draws)
        assert found.shape == x.shape and found.dtype == x.dtype
        assert bool(((found >= 0) & (found <= 1)).all()) and not torch.equal(found, x)
        assert torch.equal(found, corrupt(name, x, severity, draws))
        last = corrupt(name, x[2:], severity, draws.rows(torch.tensor([2])))
        torch.testing.assert_close(last[0], found[2], atol=1e-6, rtol=0)


@each
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)], ids=str)
def test_damage_grows_with_severity(name: str, shape: tuple[int, ...]) -> None:
    x, draws = pictures(32, *shape), draws_of(32)
    damage = [float((corrupt(name, x, s, draws) - x).square().mean()) for s in (1, 2, 3, 4, 5)]
    assert min(damage) > 1e-6, damage
    if name in ("glass blur", "snow", "elastic transform"):  # as published: not in order
        return
    assert damage[4] > 1.5 * damage[0], damage
    for less, more in zip(damage, damage[1:], strict=False):
        assert more >= less * 0.999, damage  # one motion blur differs by what rounding adds


@pytest.mark.parametrize("size", [8, 224])
def test_the_smallest_and_the_largest_images(size: int) -> None:
    x = pictures(1, 3, size, size)
    for name in NAMES:
        assert bool(torch.isfinite(corrupt(name, x, 5, draws_of(1))).all()), name


@pytest.mark.parametrize(
    "name", ["defocus blur", "glass blur", "motion blur", "zoom blur", "elastic transform",
             "contrast", "pixelate"],
)  # fmt: skip
def test_what_moves_pixels_leaves_a_plain_image(name: str) -> None:
    x = flat(2, 0.3, 3, 12, 12)
    for severity in (1, 3, 5):
        torch.testing.assert_close(corrupt(name, x, severity, draws_of(2)), x, atol=1e-5, rtol=0)


def test_noise_is_as_strong_as_it_says() -> None:
    """20 x 1024 values: the spread of a share or a deviation is below 2 % of 1."""
    x, draws = flat(20, 0.5, 1, 32, 32), draws_of(20)
    thermal = corrupt("gaussian noise", x, 5, draws) - x
    assert float(thermal.std()) == pytest.approx(0.10, rel=0.03)
    assert float(thermal.mean()) == pytest.approx(0, abs=0.003)
    photons = corrupt("shot noise", x, 5, draws)  # Poisson(25) / 50: mean 1/2, deviation 5 / 50
    assert float(photons.std()) == pytest.approx(0.1, rel=0.03)
    torch.testing.assert_close((photons * 50).round() / 50, photons)
    defects = corrupt("impulse noise", x, 5, draws)
    assert float((defects != 0.5).float().mean()) == pytest.approx(0.07, abs=0.006)
    assert float((defects == 1).float().mean()) == pytest.approx(0.035, abs=0.005)
    assert bool(((defects == 0) | (defects == 0.5) | (defects == 1)).all())
    fewer = corrupt("impulse noise", x, 1, draws)
    assert bool((defects != 0.5)[fewer != 0.5].all()), "the same pixels, and more"


def test_brightness_and_contrast_by_hand() -> None:
    x = torch.tensor([0.2, 0.4, 0.1]).reshape(1, 3, 1, 1).repeat(1, 1, 8, 8)
    bright = corrupt("brightness", x, 5, draws_of(1))  # the value 0.4 becomes 0.7: times 7/4
    assert bright[0, :, 0, 0].tolist() == pytest.approx([0.35, 0.7, 0.175])
    black = corrupt("brightness", flat(1, 0.0, 3, 8, 8), 5, draws_of(1))
    torch.testing.assert_close(black, flat(1, 0.3, 3, 8, 8))
    half = torch.cat([flat(1, 0.2, 1, 8, 4), flat(1, 0.8, 1, 8, 4)], dim=3)
    flatter = corrupt("contrast", half, 2, draws_of(1))  # half the distance to the mean of 0.5
    assert flatter[0, 0, 0, [0, 7]].tolist() == pytest.approx([0.35, 0.65])


def test_glass_takes_pixels_from_above_and_left() -> None:
    """Values tell places: a round moves pixels by 0 or 1 either way, and never rows 0 and 1."""
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    x = (rows * 16 + columns).div(256)[None, None].repeat(8, 1, 1, 1)
    for rounds in (1, 2):
        found = x
        for number in range(rounds):
            found = _taken_over(found, 1, draws_of(8).fork(number))
        place = (found * 256).round().long()
        down, right = rows.long() - place // 16, columns.long() - place % 16
        assert down.unique().tolist() == right.unique().tolist() == list(range(rounds + 1))
        assert torch.equal(found[:, :, :2], x[:, :, :2]) and torch.equal(found[..., :2], x[..., :2])


def test_the_last_round_of_fog_hardly_moves_anything() -> None:
    """Of five rounds the last draws within 9^-4 of the first: the middles of the smallest squares
    are the means of their corners."""
    fog = corrupt("fog", flat(16, 0.5, 1, 32, 32), 1, draws_of(16))
    spread = fog.amax((1, 2, 3)) - fog.amin((1, 2, 3))
    corners = fog[..., ::2, ::2]
    means = (corners[..., :-1, :] + corners[..., 1:, :]).unfold(3, 2, 1).sum(-1) / 4
    apart = (fog[..., 1:-1:2, 1:-1:2] - means).abs().amax((1, 2, 3)) / spread
    assert bool((apart < 9**-3).all()) and bool((apart > 0).all())


def test_pixelate_shows_blocks_of_means() -> None:
    x = pictures(1, 1, 20, 20)
    found = corrupt("pixelate", x, 5, draws_of(1))[0, 0]  # 13 coarse pixels a side
    assert len({tuple(row) for row in found.tolist()}) == 13
    assert len({tuple(column) for column in found.T.tolist()}) == 13
    width = 20 / 13  # the first block: one pixel, and 7/13 of the next, both ways
    part = torch.tensor([1.0, width - 1]) / width
    assert float(found[0, 0]) == pytest.approx(float(part @ x[0, 0, :2, :2] @ part), abs=1e-5)


def test_a_line_smears_to_one_side() -> None:
    x = torch.zeros(2, 1, 9, 9)
    x[:, :, 4, 4] = 1
    angles = torch.tensor([0.0, torch.pi / 2])
    found = smear(x, 3, 1.0, angles)
    weights = torch.tensor([1, 0.60653, 0.13534])
    weights = weights / weights.sum()
    torch.testing.assert_close(found[0, 0, 4, [4, 3, 2]], weights, atol=1e-4, rtol=0)
    torch.testing.assert_close(found[1, 0, [4, 3, 2], 4], weights, atol=1e-4, rtol=0)
    assert float(found.sum()) == pytest.approx(2)
    moved = shifted(x, torch.tensor([1, 0]), torch.tensor([0, -2]))
    assert moved[0, 0].nonzero().tolist() == [[3, 4]] and moved[1, 0].nonzero().tolist() == [[4, 6]]


def test_weather_lightens() -> None:
    x = flat(4, 0.2, 1, 32, 32)
    for name in ("snow", "frost", "fog", "brightness"):
        low, high = (corrupt(name, x, s, draws_of(4)).mean() for s in (1, 5))
        if name == "fog":  # it cannot be lighter than the lightest pixel
            assert float(high) <= 0.2 + 1e-6
        else:
            assert 0.2 < float(low) < float(high), name


def test_accuracy_is_counted_per_name_and_severity() -> None:
    dark, light = flat(4, 0.1, 1, 8, 8), flat(4, 0.45, 1, 8, 8)
    x, y = torch.cat([dark, light]), torch.zeros(8, dtype=torch.int64)

    def bright(images: Tensor) -> Tensor:
        return (images.mean((1, 2, 3)) > 0.5).long()

    found = corruption_accuracy(bright, x, y, seed=0, severities=(1, 5))
    assert found["names"] == list(NAMES) and found["severities"] == [1, 5]
    table = dict(zip(NAMES, found["accuracy"], strict=True))
    assert table["brightness"] == [100.0, 50.0]  # 0.45 + 0.05 is not above 0.5; 0.45 + 0.3 is
    assert table["contrast"] == [100.0, 100.0]
    mean = sum(sum(row) for row in found["accuracy"]) / 30
    assert found["mean"] == pytest.approx(mean)
    nothing = corruption_accuracy(lambda x: torch.full((len(x),), 7), x, y, 0, (3,))
    assert nothing["mean"] == 0 and nothing["accuracy"] == [[0.0]] * 15


def test_shards_together_are_the_whole() -> None:
    x = pictures(6, 1, 8, 8)
    y = (x.mean((1, 2, 3)) > 0.5).long()

    def classes_of(images: Tensor) -> Tensor:
        return (images.mean((1, 2, 3)) > 0.5).long()

    draws = draws_of(6)
    whole = corruption_hits(classes_of, x, y, draws, (2, 5))
    parts = [
        corruption_hits(classes_of, x[p], y[p], Draws(draws.seeds[p]), (2, 5))
        for p in (slice(0, 4), slice(4, 6))
    ]
    assert torch.equal(torch.cat(parts, dim=2), whole)
    assert corruption_result(whole, (2, 5)) == corruption_accuracy(classes_of, x, y, 0, (2, 5))


def test_refusals() -> None:
    x = pictures(1, 1, 8, 8)
    for name, images, severity, said in (
        ("rain", x, 1, "corruption 'rain': choose one of gaussian noise"),
        ("fog", x, 6, "severity 6"),
        ("fog", x, 0, "severity 0"),
        ("fog", x[:, :, :7], 1, r"shape \(1, 7, 8\) cannot be corrupted"),
        ("fog", x.repeat(1, 2, 1, 1), 1, "1 or 3 channels"),
        ("fog", x.flatten(1), 1, r"shape \(64,\)"),
        ("fog", x * 255, 1, "not in 0..1"),
    ):
        with pytest.raises(InputError, match=said):
            corrupt(name, images, severity, draws_of(1))
    with pytest.raises(InputError, match="0 images"):
        corruption_accuracy(lambda x: x, x[:0], torch.zeros(0), 0)
    with pytest.raises(InputError, match="one label for each image"):
        corruption_accuracy(lambda x: x, x, torch.zeros(2), 0)
