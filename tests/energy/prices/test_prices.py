"""Price lists against published numbers that can be worked out again (each named where it is used)."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikemorph.energy import PRICE_LISTS, Counts, PriceList, Widths
from spikemorph.energy.counting.counts import PER_SAMPLE, LayerCounts
from spikemorph.energy.prices.bitops import bit_budget, bits_of
from spikemorph.energy.prices.chips import (
    LOIHI_SANAFE,
    LOIHI_TABLE2,
    SPINNAKER2,
    TRUENORTH,
)
from spikemorph.energy.prices.compute import SYNOPS_FP32, SYNOPS_INT, counts_rate_twice
from spikemorph.energy.prices.devices import CPU
from spikemorph.energy.prices.memory_access import MEM45_CLAMPED, MEM45_LINE
from spikemorph.energy.prices.price_list import Constant, Evidence
from spikemorph.energy.prices.traffic import (
    STEP,
    large_fan_in_break_even,
    large_fan_in_ratio,
    yan22,
)
from spikemorph.energy.prices.workload import Frame, FrameColumn, SpikingColumn
from spikemorph.energy.results import PARTS

WORDS = Widths(state=32)


def one(*layers: LayerCounts, steps: int = 1) -> Counts:
    return Counts(layers, 1, steps)


def snn_uj(price: PriceList, *layers: LayerCounts, steps: int = 1, widths: Widths = WORDS) -> float:
    loads = SpikingColumn("snn", masked=True).loads(one(*layers, steps=steps))
    return sum(part.total for part in price.of_spikes(loads, widths) or ()) * 1e-6


def frame_uj(price: PriceList, loads: Sequence[Frame]) -> float:
    return sum(part.total for part in price.of_frame(loads, WORDS) or ()) * 1e-6


@pytest.mark.parametrize(
    ("additions", "products", "millijoule"),
    [(0.10e9, 0.14e9, 0.734), (0.50e9, 2.75e9, 13.10), (1.69e9, 0.20e9, 2.44), (0, 1.82e9, 8.372)],
)
def test_four_networks_of_the_syops_table(
    additions: float, products: float, millijoule: float
) -> None:
    layer = LayerCounts("l", "Linear", synops_unit=int(additions), analog_macs=int(products))
    assert snn_uj(SYNOPS_FP32, layer) / 1000 == pytest.approx(millijoule, rel=1e-3)


def test_a_rate_multiplied_twice_is_recognised() -> None:
    """18.39 M products are 84.594 uJ, 2.51 M additions 2.259 uJ: 37.4 times, not 273.77."""
    column = FrameColumn("ann", masked=False, skipping=False, bits=32, floating=True)
    products = LayerCounts("l", "Linear", mac_dense=18_390_000)
    ann = frame_uj(SYNOPS_FP32, column.loads(one(products)))
    snn = snn_uj(SYNOPS_FP32, LayerCounts("l", "Linear", synops_unit=2_510_000))
    assert ann == pytest.approx(84.594, abs=1e-3)
    assert snn == pytest.approx(2.259, abs=1e-3)
    assert ann / snn == pytest.approx(37.4, abs=0.05)
    assert counts_rate_twice(0.309, 2_510_000, 0.1366)
    assert not counts_rate_twice(snn, 2_510_000, 0.1366)


@pytest.mark.parametrize("price", PRICE_LISTS, ids=lambda price: price.name)
def test_elements_cost_alike(price: PriceList) -> None:
    """A layer that works at five elements costs five times one: its memories are no larger."""

    def layer(elements: int) -> LayerCounts:
        moving = dict.fromkeys(PER_SAMPLE, 3 * elements)
        still = ("mac_dense", "mac_masked", "adds_dense", "scalings_dense")
        return LayerCounts(
            "l", "Linear", inputs=40, outputs=30, channels=30, kernel=1, weights=1200,
            nonzero_weights=700, weight_bits=8, index_bits=6, bias_cells=30, input_bits=5,
            output_bits=4, event_levels=5, neurons=30, elements=elements,
            **moving, **dict.fromkeys(still, 900 * elements),
        )  # fmt: skip

    rows = [price.row(one(layer(n), steps=4), one(layer(n), steps=4), WORDS) for n in (1, 5)]
    for column in rows[0].layers:
        single, several = (row.energy_uj(column) for row in rows)
        assert several == pytest.approx(5 * (single or 0.0)), column


@pytest.mark.parametrize(("accumulator", "ratio"), [(32, 3.0), (16, 5.0)])
def test_compute_only_break_even_of_8_bit_products(accumulator: int, ratio: float) -> None:
    """(0.2 + 0.1) / 0.1, and (0.2 + 0.05) / 0.05 spikes a synapse."""
    widths = Widths(accumulator=accumulator)
    layer = LayerCounts(
        "l", "Linear", weight_bits=8, input_bits=8, mac_dense=100, mac_masked=100,
        mac_effective=100, synops_unit=100,
    )  # fmt: skip
    frames = FrameColumn("int8", masked=True, skipping=True, bits=8).loads(one(layer))
    frame = sum(part.total for part in SYNOPS_INT.of_frame(frames, widths) or ())
    assert frame * 1e-6 / snn_uj(SYNOPS_INT, layer, widths=widths) == pytest.approx(ratio)


def test_events_that_are_powers_of_two_cost_a_shift_and_others_a_product() -> None:
    """10 x 0.1; and 10 x 0.13; and 10 products of 8 by 3 bits, 0.2 x 24 / 64."""
    plain = LayerCounts("l", "Linear", weight_bits=8, event_levels=8, synops_unit=10)
    shifted = LayerCounts("l", "Linear", weight_bits=8, event_levels=8, synops_shifted=10)
    graded = LayerCounts("l", "Linear", weight_bits=8, event_levels=8, synops_graded=10)
    found = [snn_uj(SYNOPS_INT, layer) * 1e6 for layer in (plain, shifted, graded)]
    assert found == pytest.approx([1.0, 2.3, 1.0 + 10 * 0.2 * 24 / 64])


def full_layer() -> tuple[Frame, LayerCounts, LayerCounts]:
    """1024 x 1024, 32-bit integers, no bias; every input is active, every neuron updated once."""
    size = 1024 * 1024
    weighted = LayerCounts(
        "fc", "Linear", inputs=1024, outputs=1024, channels=1024, kernel=1, weights=size,
        nonzero_weights=size, weight_bits=32, index_bits=10, input_bits=32, output_bits=32,
        event_levels=2, mac_dense=size, mac_masked=size, synops_unit=size,
        synops_dense_weights=size, spikes_in=1024,
    )  # fmt: skip
    neurons = LayerCounts("a", "Ladder", outputs=1024, neurons=1024, updates_driven=1024)
    (frame,) = FrameColumn("f", masked=False, skipping=False, bits=32).loads(one(weighted))
    return frame, weighted, neurons


def test_lemaires_layer_with_both_access_functions() -> None:
    """As in spikingjelly 2.0: 108.2235 and 115.5686 uJ. On the line 400.73 and 426.03 uJ."""
    frame, weighted, neurons = full_layer()
    assert frame_uj(MEM45_CLAMPED, [frame]) == pytest.approx(108.2235, abs=1e-3)
    assert snn_uj(MEM45_CLAMPED, weighted, neurons) == pytest.approx(115.5686, abs=1e-3)
    assert frame_uj(MEM45_LINE, [frame]) == pytest.approx(400.73, abs=0.01)
    assert snn_uj(MEM45_LINE, weighted, neurons) == pytest.approx(426.03, abs=0.01)
    (parts,) = MEM45_CLAMPED.of_frame([frame], WORDS) or ()
    assert parts.weight_memory * 1e-6 == pytest.approx(104.858, abs=1e-3)
    assert parts.compute * 1e-6 == pytest.approx(3.355, abs=1e-3)


def test_sparse_weights_are_read_with_their_index_where_that_is_smaller() -> None:
    """At one weight in ten, words of 8 + 10 bits; at nine in ten, all weights of 8 bits."""
    shape = {"weights": 1000, "weight_bits": 8, "index_bits": 10, "mac_dense": 1000}
    few = LayerCounts("l", "Linear", **shape, nonzero_weights=100, mac_masked=100)
    most = LayerCounts("l", "Linear", **shape, nonzero_weights=900, mac_masked=900)
    column = FrameColumn("integer_masked", masked=True, skipping=False)
    (sparse,), (dense,) = column.loads(one(few)), column.loads(one(most))
    assert (sparse.stored, sparse.word_bits, sparse.weight_reads) == (100, 18, 100)
    assert (dense.stored, dense.word_bits, dense.weight_reads, dense.macs) == (1000, 8, 1000, 900)


def test_step_reads_and_writes_membranes_and_works_bit_by_bit() -> None:
    """0.9 x 24 set bits + 3.12 x 2 x 10 x 4; and 0.9 x 30 + 4.6 x 5 + 3.12 x 2 x 10 x 7 x 16."""
    weighted = LayerCounts(
        "l", "Linear", input_bits=4, mac_masked=16, mac_bits=24, synops_unit=30, synop_bits=30,
        analog_macs=5,
    )  # fmt: skip
    neurons = LayerCounts("a", "Ladder", neurons=10, output_bits=4)
    frames = FrameColumn("f", masked=True, skipping=True).loads(one(weighted, neurons))
    assert frame_uj(STEP, frames) * 1e6 == pytest.approx(0.9 * 24 + 3.12 * 2 * 10 * 4)
    found = snn_uj(STEP, weighted, neurons, steps=7, widths=Widths(state=16)) * 1e6
    assert found == pytest.approx(0.9 * 30 + 4.6 * 5 + 3.12 * 2 * 10 * 7 * 16)


def values(ratio: int = 12, **changed: float) -> dict[str, float]:
    return {c.name: c.value for c in yan22(ratio).constants} | changed


@pytest.mark.parametrize(
    ("changed", "percent"),
    [
        ({}, 5.72),
        ({"event_ratio": 6.0}, 10.80),
        ({"dense_bit_hop": 0.125, "event_ratio": 24.0}, 3.36),
        ({"weight": 0.065}, 5.42),
        ({"weight": 0.195}, 6.00),
    ],
)
def test_yans_break_even_rates_at_five_steps(changed: dict[str, float], percent: float) -> None:
    """Published: 5.7, 10.80, 3.41, 5.39 and 6.08 %."""
    assert 100 * large_fan_in_break_even(values(**changed), 5) == pytest.approx(percent, abs=0.1)


@pytest.mark.parametrize(("steps", "published"), [(3, 1.500), (7, 2.338), (15, 3.762)])
def test_yans_dense_regime_is_steps_over_bits(steps: int, published: float) -> None:
    only_moves = values(accumulate=0.0, weight=0.0, product=0.0, event_ratio=1e9)
    assert large_fan_in_ratio(only_moves, 1.0, steps) == pytest.approx(published, rel=0.01)


def test_yans_vgg() -> None:
    """VGG-16 on CIFAR-10, 8 steps, 8.52 % of neurons firing, 0.64 hops: 1.966."""
    found = large_fan_in_ratio(values(weight=0.0, hops=0.64), 0.0852, 8)
    assert found == pytest.approx(1.966, rel=2e-3)


@given(rate=st.floats(0.001, 1.0), steps=st.integers(1, 31), ratio=st.sampled_from((1, 4, 12, 64)))
def test_yans_list_prices_counts_by_the_law(rate: float, steps: int, ratio: int) -> None:
    """Unit spikes through a fully used layer, against activations of ceil(log2(T + 1)) bits."""
    synapses = 10**9
    layer = LayerCounts(
        "l", "Linear", mac_dense=synapses, mac_masked=synapses, input_bits=steps.bit_length(),
        event_levels=2, synops_unit=round(rate * steps * synapses),
        synop_bits=round(rate * steps * synapses),
    )  # fmt: skip
    price = yan22(ratio)
    frame = frame_uj(price, FrameColumn("f", masked=True, skipping=False).loads(one(layer)))
    wanted = large_fan_in_ratio(values(ratio), rate, steps)
    assert snn_uj(price, layer, steps=steps) / frame == pytest.approx(wanted, rel=1e-6)


def test_sanafes_closed_form_on_recorded_counts() -> None:
    """Synapse 2 119 420.8, soma 3 051 033.7, network 1 387 876.2 pJ: 6.558 uJ in all."""
    layer = LayerCounts(
        "all", "Ladder", neurons=33_350, synops_unit=63_078, updates_driven=30_511,
        spikes_out=9_877, spikes_in=12_366,
    )  # fmt: skip
    loads = SpikingColumn("snn", masked=True).loads(one(layer))
    (parts,) = LOIHI_SANAFE.having(hops=3631 / 12366, hop=4.2).of_spikes(loads, WORDS) or ()
    assert parts.compute == pytest.approx(2_119_420.8, abs=0.05)
    assert parts.state_memory + parts.spike_io == pytest.approx(3_051_033.7, abs=0.05)
    assert parts.routing == pytest.approx(1_387_876.2, abs=0.05)
    assert parts.total * 1e-6 == pytest.approx(6.558, abs=1e-3)


def test_chips_by_hand() -> None:
    """Loihi's table: 10 x 23.6 + 3 x 81 + 7 x 52 + 2 x 1.7 + 4 x 3.5; SpiNNaker: 4500 + 21900."""
    layer = LayerCounts(
        "l", "Ladder", neurons=5, synops_unit=10, updates_driven=3, spikes_out=2, spikes_in=4
    )
    wanted = 10 * 23.6 + 3 * 81 + 7 * 52 + 2 * 1.7 + 4 * 3.5
    assert snn_uj(LOIHI_TABLE2, layer, steps=2) * 1e6 == pytest.approx(wanted)
    assert snn_uj(SPINNAKER2, layer, steps=2) * 1e6 == pytest.approx(10 * 450 + 10 * 2190)


def test_truenorth_is_mostly_static() -> None:
    """72 mW over 2**20 x 20 x 128 events are 26.8 pJ each; 42 mW of it are spent without any."""
    events = 2**20 * 20 * 128
    assert 72e-3 / events * 1e12 == pytest.approx(26.82, abs=0.01)
    chip = LayerCounts("l", "Ladder", neurons=2**20, synops_unit=events)
    loads = SpikingColumn("snn", masked=True).loads(one(chip, steps=1000))  # a second
    (parts,) = TRUENORTH.of_spikes(loads, WORDS) or ()
    assert parts.static * 1e-12 == pytest.approx(42e-3)
    assert parts.compute == pytest.approx(2.297 * events)


def test_keraspikings_processor() -> None:
    """784 -> 128 on a desktop processor: (100 352 + 128) x 8.6 nJ = 8.64e-4 J."""
    layers = (
        LayerCounts("l", "Linear", mac_dense=784 * 128),
        LayerCounts("a", "Ladder", neurons=128),
    )
    column = FrameColumn("ann", masked=False, skipping=False, bits=32, floating=True)
    assert frame_uj(CPU, column.loads(one(*layers))) * 1e-6 == pytest.approx(8.64e-4, rel=1e-3)


@pytest.mark.parametrize(
    ("steps", "ratio"), [(1, 1), (2, 1), (4, 1.33), (8, 2), (16, 3.2), (32, 5.33)]
)
def test_bit_budget_against_the_quantised_twin(steps: int, ratio: float) -> None:
    """Unit spikes for T steps over ceil(log2(T + 1)) activation bits."""
    layer = LayerCounts(
        "l", "Linear", mac_dense=50, mac_masked=20, weight_bits=8, input_bits=steps.bit_length(),
        event_levels=2, spikes_in=1, synops_unit=20 * steps,
    )  # fmt: skip
    counts = one(layer, steps=steps)
    found = bits_of(counts, counts)
    assert found.s_ace_dense / found.ace_integer_dense == pytest.approx(ratio, abs=0.01)
    assert found.s_ace_masked / found.ace_integer_masked == pytest.approx(ratio, abs=0.01)
    assert found.ns_ace_masked == found.s_ace_masked == 20 * bit_budget(steps, 8)


def test_every_constant_says_where_it_comes_from() -> None:
    """Unit, source, node; a list is as good as its weakest constant; energies have no negatives."""
    for price in PRICE_LISTS:
        assert price.constants, price.name
        assert len({c.name for c in price.constants}) == len(price.constants)
        for constant in price.constants:
            assert constant.unit and constant.source and constant.node and constant.value > 0
        assert price.evidence == max(c.evidence for c in price.constants)
    assert len({price.name for price in PRICE_LISTS}) == len(PRICE_LISTS)
    assert LOIHI_TABLE2.evidence is Evidence.ASSUMED  # hops
    assert SYNOPS_FP32.having(float_add=0.1).evidence is Evidence.ASSUMED
    with pytest.raises(ValueError, match="no constants"):
        SYNOPS_FP32.having(synapse=1.0)
    with pytest.raises(ValueError, match="its unit and its source"):
        Constant("odd", 1.0, "", "nobody", "45 nm", Evidence.SILICON)
    assert "static" in PARTS
