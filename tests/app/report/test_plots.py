"""Plots: scales keep order, ticks stay inside, lengths are proportional, texts are escaped."""

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikemorph.report.plots import (
    LETTER,
    SAMPLES,
    Scale,
    round_ends,
    shortened,
    stroke,
    symbol,
    words,
)
from spikemorph.report.plots_bars import Bar, Bars, Ratios, bars, ratios
from spikemorph.report.plots_curves import Curves, Series, curves
from spikemorph.report.plots_spikes import HeatRow, RasterRow, heat, raster, share_bar

WIDTHS = (340, 368, 760)
numbers = st.floats(1e-9, 1e9)


@given(numbers, numbers, st.booleans())
def test_a_scale_keeps_order_and_its_ticks_lie_inside(a: float, b: float, log: bool) -> None:
    low, high = sorted((a, b))
    if high < low * (1 + 1e-6):
        return
    scale = Scale(low, high, 10, 110, log)
    assert scale(low) == pytest.approx(10) and scale(high) == pytest.approx(110)
    assert scale((low + high) / 2) > 10
    ticks = scale.ticks()
    assert len(ticks) <= 12
    assert all(9.5 <= scale(tick) <= 110.5 for tick in ticks)
    assert all(before < after for before, after in pairwise(ticks))


@pytest.mark.parametrize(("low", "high"), [(0.0, 100.0), (96.1, 100.0), (0.0, 3e-5), (-2.0, 7.0)])
def test_ticks_are_round_and_several(low: float, high: float) -> None:
    ticks = Scale(low, high, 0, 1).ticks()
    assert 3 <= len(ticks) <= 7
    step = ticks[1] - ticks[0]
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(mantissa - m) for m in (1, 2, 2.5, 5)) < 1e-6


@given(st.lists(numbers, min_size=1, max_size=5), st.booleans())
def test_ends_are_round_and_hold_every_value(values: list[float], log: bool) -> None:
    low, high = round_ends(values, log=log)
    assert low < high
    assert all(low * (1 - 1e-9) <= value <= high * (1 + 1e-9) for value in values)
    if log:
        mantissas = [end / 10 ** math.floor(math.log10(end) + 1e-9) for end in (low, high)]
        assert all(min(abs(m - k) for k in (1, 2, 5, 10)) < 1e-6 for m in mantissas)
    else:
        ticks = Scale(low, high, 0, 1).ticks()
        assert (ticks[0], ticks[-1]) == pytest.approx((low, high), abs=1e-9 * high)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("doubling", [False, True])
def test_values_on_axes_are_round_apart_and_inside_the_picture(width: int, doubling: bool) -> None:
    """Points at 20,100.06 and 249,740.71, as two networks had, and with a large y axis."""
    points = ((20_100.06, 98_333.3, "a"), (249_740.71, 1_991_666.7, "b"))
    svg = curves(Curves("l", "x", "y", (Series("s", points),), doubling=doubling), width)
    ticks = [
        i for i in ElementTree.fromstring(svg).iter("text") if "tick" in (i.get("class") or "")
    ]
    assert len(ticks) >= 6 and not any("." in (tick.text or "") for tick in ticks)
    named = [text for _, text in Scale(98.2, 99.2, 0, 1).named_ticks()]
    assert named == ["98.2", "98.4", "98.6", "98.8", "99.0", "99.2"]
    below = [t for t in ticks if "middle" in (t.get("class") or "")]
    spans = []
    for tick in ticks:
        x, wide = float(tick.get("x", "nan")), LETTER * len(tick.text or "")
        start = x - wide / 2 if tick in below else x - wide
        assert start >= -0.1 and start + wide <= width + 0.1, tick.text  # drawn to a tenth
        spans += [(start, start + wide)] if tick in below else []
    assert all(before[1] <= after[0] + 0.1 for before, after in pairwise(spans))


def test_ticks_stand_at_measured_points_where_that_is_asked() -> None:
    series = (Series("s", ((0.0, 90.0, "a"), (8.0, 50.0, "b"), (32.0, 0.0, "c"))),)
    for measured, wanted in ((True, ["0", "8", "32"]), (False, ["0", "10", "20", "30", "40"])):
        svg = curves(Curves("l", "x", "y", series, measured=measured), 760)
        assert re.findall(r'class="tick middle"[^>]*>([^<]*)<', svg) == wanted


def test_no_bar_is_longer_than_its_axis() -> None:
    svg = bars(Bars("label", "x", (Bar("a", ((5.46, "a"),)),)), 760)
    assert re.findall(r'class="tick middle"[^>]*>([^<]*)<', svg) == ["0", "2", "4", "6"]


def test_a_scale_of_one_value_is_in_the_middle() -> None:
    assert Scale(3, 3, 0, 10)(3) == 5 and Scale(3, 3, 0, 10).ticks() == [3]


def test_series_can_be_told_apart_without_colours() -> None:
    """36 series have 36 pairs of colour and shape; the first six differ in shape alone."""
    signs = [re.sub(r"[\d. -]", "", str(symbol(0, 0, index))) for index in range(36)]
    assert len(set(signs[:6])) == 6
    assert len({str(symbol(0, 0, index)) for index in range(36)}) == 36
    assert len({stroke(index) for index in range(36)}) == 36


def rectangles(svg: str, style: str) -> list[float]:
    """The widths of all rectangles of a class."""
    tree = ElementTree.fromstring(svg)
    found = [item for item in tree.iter("rect") if style in item.get("class", "").split()]
    return [float(item.get("width", "nan")) for item in found]


@pytest.mark.parametrize("width", WIDTHS)
def test_bars_are_as_long_as_their_values(width: int) -> None:
    rows = (Bar("a", ((1.0, "one"), (3.0, "three"))), Bar("b", ((2.0, "two"), (0.0, "nothing"))))
    svg = bars(Bars("label", "x", rows), width)
    one, two = rectangles(svg, "c0")
    (three,) = rectangles(svg, "c1")
    assert three == pytest.approx(3 * one, abs=0.5) and two == pytest.approx(2 * one, abs=0.5)
    assert svg.count("<title>") == 3


@pytest.mark.parametrize("width", WIDTHS)
def test_ratios_lie_on_their_side_of_one(width: int) -> None:
    rows = (("p", ((0, 0.25, "low"), (1, 4.0, "high"))),)
    svg = ratios(Ratios("label", "x", rows, ("less", "more")), width)
    tree = ElementTree.fromstring(svg)
    one = next(float(i.get("x1", 0)) for i in tree.iter("line") if i.get("class") == "one")
    low, high = (
        float(r.get("x", 0)) + 9 for r in tree.iter("rect") if r.get("class") == "area"
    )  # fmt: skip
    assert low < one < high and one - low == pytest.approx(high - one, abs=0.2)


def test_curves_draw_every_point_and_line_of_reference() -> None:
    series = (Series("up", ((1.0, 5.0, "a"), (2.0, 7.0, "b"))), Series("none", ()))
    plot = Curves("label", "x", "y", series, (("level", 9.0),), (("limit", 3.0),))
    svg = curves(plot, 368)
    found = re.findall(r"<title>(.*?)</title>", svg)
    assert sorted(found) == ["a", "b", "level", "limit"]
    points = ElementTree.fromstring(svg).find("polyline")
    assert points is not None
    (x1, y1), (x2, y2) = (map(float, pair.split(",")) for pair in points.get("points", "").split())
    assert x1 < x2 and y1 > y2  # upwards is less in pictures


def test_a_heat_map_has_a_cell_for_every_value_and_darkest_where_it_is_most() -> None:
    rows = [HeatRow("a", (0.0, 4.0), ("0", "4")), HeatRow("b", (1.0, 8.0), ("1", "8"))]
    svg = heat("label", rows, 760, "step")
    shades = [int(s) for s in re.findall(r'class="heat h(\d)"', svg)]
    assert shades == [0, 4, 1, 8]


def test_a_raster_has_a_bar_for_every_spike_of_its_sign() -> None:
    rows = [RasterRow("a", ((1, 2), (3, -1))), RasterRow("b", ())]
    svg = raster("label", rows, 4)
    assert svg.count("spike up") == 1 and svg.count("spike down") == 1
    assert svg.count('<g class="mark">') == 2


def test_the_key_of_a_raster_has_the_colours_of_its_spikes() -> None:
    svg = raster("label", [RasterRow("a", ((1, 2), (2, -1)))], 2)
    drawn = re.findall(r'class="(spike [a-z]+)"', svg)
    keys = [re.findall(r'class="([^"]+)"', SAMPLES["spike"](index))[0] for index in (0, 1)]
    assert drawn == keys


def test_a_share_is_a_share_of_the_track() -> None:
    assert rectangles(share_bar(0.25), "bar") == [16.0]
    assert rectangles(share_bar(7.0), "bar") == [64.0]


@pytest.mark.parametrize("width", WIDTHS)
def test_names_are_escaped_and_shortened_from_the_left(width: int) -> None:
    name = "<b>" + "stage." * 40 + "relu&1"
    plot = Bars("la<bel", "x & y", (Bar(name, ((1.0, name),), name),))
    tree = ElementTree.fromstring(bars(plot, width))  # is it well formed at all?
    assert any(item.text == name for item in tree.iter("title"))
    assert any((i.text or "").startswith("…") and (i.text or "").endswith("relu&1")
               for i in tree.iter("text"))  # fmt: skip
    assert tree.get("aria-label") == "la<bel"
    assert shortened("short", 100) == "short"
    assert words(0, 0, "<i>").count("&lt;i&gt;") == 1


def test_nothing_to_draw_is_still_a_picture() -> None:
    for svg in (
        bars(Bars("l", "x", ()), 340), ratios(Ratios("l", "x", ()), 340), raster("l", [], 0),
        curves(Curves("l", "x", "y", ()), 340), heat("l", [], 340, "x"),
    ):  # fmt: skip
        assert ElementTree.fromstring(svg).tag == "svg"
