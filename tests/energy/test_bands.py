"""Columns, band, verdict and break-even of whole networks; whether a network fits on a chip."""

import json
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from spikemorph.convert import to_spiking
from spikemorph.energy import PRICE_LISTS, Counts, EnergyResult, Widths, count, estimate_energy
from spikemorph.energy.bands import HEADLINE, NO_BREAK_EVEN, band, verdict
from spikemorph.energy.counting.counts import LayerCounts
from spikemorph.energy.estimate import priced
from spikemorph.energy.fits import fit_loihi
from spikemorph.energy.prices.bitops import bits_of
from spikemorph.energy.prices.workload import Encoder, SpikingColumn
from spikemorph.energy.results import COLUMNS, UNCHANGED, ChipFit, Parts, PriceRow
from spikemorph.graph import Graph, Input, InputError, Node
from spikemorph.graph.grid import Grid
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.ladder import Ladder
from spikemorph.layers.linear import Linear
from spikemorph.layers.masks import with_masks
from spikemorph.layers.readout import Readout
from spikemorph.layers.shape import Reshape
from spikemorph.report.page.costs.energy import energy as energy_page
from spikemorph.spiking import Coding, SpikingNetwork
from spikemorph.spiking.coding import AnalogFirstStep, Repeated
from spikemorph.spiking.neurons import STBIF

ONE, SAME = (1, 1), ((1, 1), (1, 1))
STEPS = 8


def small_graph(width: int = 8) -> Graph:
    """Convolution, convolution, linear; 8-bit weights, ladders of eight levels."""
    generator = torch.Generator().manual_seed(4)

    def weight(*shape: int) -> Tensor:
        return torch.randint(-127, 128, shape, generator=generator)

    def ladder(threshold: int) -> Ladder:
        return Ladder(torch.arange(1, 8)[None] * threshold, 0, 7, Fraction(1))

    nodes = (
        Node("x", Input((1, 6, 6), Grid(Fraction(1), 0, 15))),
        Node("first", Convolution(weight(width, 1, 3, 3), None, ONE, SAME, ONE), ("x",)),
        Node("a", ladder(400), ("first",)),
        Node("second", Convolution(weight(width, width, 3, 3), None, ONE, SAME, ONE), ("a",)),
        Node("b", ladder(500), ("second",)),
        Node("flat", Reshape((width * 36,)), ("b",)),
        Node("out", Linear(weight(4, width * 36), weight(4)), ("flat",)),
        Node("end", Readout(torch.tensor([1]), Fraction(1)), ("out",)),
    )
    return Graph(nodes, ("x",), ("end",))


def pruned_graph(share: float = 0.95) -> Graph:
    graph = small_graph()
    generator = torch.Generator().manual_seed(5)
    masks = {
        name: torch.rand(graph[name].op.weight.shape, generator=generator) > share
        for name in ("second", "out")
    }
    return with_masks(graph, masks)


def samples(number: int = 3) -> Tensor:
    return torch.randint(
        0, 16, (number, 1, 6, 6), generator=torch.Generator().manual_seed(6)
    ).float()


def spiking(graph: Graph, coding: Coding | None = None) -> SpikingNetwork:
    return to_spiking(graph, STBIF(), coding or AnalogFirstStep())


@pytest.fixture(scope="module")
def result() -> EnergyResult:
    return estimate_energy(spiking(pruned_graph()), samples(), STEPS, model="small", data="noise")


def test_every_list_prices_the_spiking_columns_and_chips_nothing_else(result: EnergyResult) -> None:
    for row in result.prices:
        found = {name: row.energy_uj(name) for name in COLUMNS}
        assert all(found[name] is not None for name in COLUMNS if name.startswith("snn")), row.name
        if "absolute only" in row.note:
            assert all(found[name] is None for name in COLUMNS if not name.startswith("snn"))
        for parts in row.layers.values():
            assert all(part.total >= 0 for part in parts)
        assert (found["snn"] or 0) <= (found["snn_dense"] or 0), row.name
        assert found[UNCHANGED] is None, "there are no elements"
    in_band = {row.name for row in result.prices if row.in_band}
    assert in_band == {
        "synops-int", "mem45-line", "mem45-clamped", "step",
        "yan22-eta1", "yan22-eta4", "yan22-eta12", "yan22-eta64",
    }  # fmt: skip


def test_skipping_and_pruning_never_cost_the_baseline_more(result: EnergyResult) -> None:
    for row in result.prices:
        if row.in_band:
            for kind in ("integer", "int8"):
                costs = {n: row.energy_uj(f"{kind}_{n}") or 0.0 for n in ("dense", "masked")}
                skips = {n: row.energy_uj(f"{kind}_{n}_skipping") or 0.0 for n in costs}
                assert skips["dense"] <= costs["dense"] and skips["masked"] <= costs["masked"]
                assert costs["masked"] <= costs["dense"] and skips["masked"] <= skips["dense"]


def test_the_encoder_once_and_every_step() -> None:
    """Injected whole, once is what was measured; at every step it costs as often; two pieces, twice."""
    layers = {}
    for coding in (AnalogFirstStep(), Repeated(2)):
        counts = count(spiking(pruned_graph(), coding), samples(), STEPS)
        row = PRICE_LISTS[0].row(counts, counts, Widths())
        energy = {n: row.energy_uj(f"snn{n}") or 0.0 for n in ("", "_encoder_once")}
        energy["every"] = row.energy_uj("snn_encoder_every_step") or 0.0
        layers[type(coding).__name__] = energy
        once = 4.6e-6 * sum(layer.analog_macs_once for layer in counts.layers) / 3
        assert energy["every"] - energy["_encoder_once"] == pytest.approx((STEPS - 1) * once)
        always = SpikingColumn("s", masked=True, encoder=Encoder.EVERY_STEP).loads(counts)[0]
        alone = SpikingColumn("s", masked=True, encoder=Encoder.ONCE).loads(counts)[0]
        assert always.analog_events == pytest.approx(STEPS * alone.analog_events)
        assert always.analog_reads == STEPS * alone.analog_reads > 0
    first, pieces = layers["AnalogFirstStep"], layers["Repeated"]
    assert first[""] == first["_encoder_once"]
    assert pieces[""] > pieces["_encoder_once"]


def test_a_dense_network_brings_its_own_counts(result: EnergyResult) -> None:
    dense = spiking(small_graph())
    found = estimate_energy(spiking(pruned_graph()), samples(), STEPS, dense=dense)
    assert "same spikes" in result.dense_source and "measured" in found.dense_source
    assert found.dense_counts is not None
    synops = found.dense_counts.total("synops_dense_weights")
    analog = found.dense_counts.total("analog_macs_dense_weights")
    wanted = (0.9 * synops + 4.6 * analog) * 1e-6 / 3
    assert found.row("synops-fp32").energy_uj("snn_dense") == pytest.approx(wanted)
    assert found.row("step").energy_uj("snn") == result.row("step").energy_uj("snn")


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.2, 0.99, "lower"), (1.01, 3.0, "higher"), (0.5, 2.0, "model-dependent"),
     (0.5, 1.0, "model-dependent"), (1.0, 1.0, "model-dependent")],
)  # fmt: skip
def test_the_word_is_lower_only_if_the_whole_band_is(low: float, high: float, word: str) -> None:
    assert verdict(low, high) == word


def test_the_band_is_of_its_models_only() -> None:
    """Ratios 0.5, 2, 3 of models in the band; a model outside it, or without baseline, is left out."""

    def row(name: str, own: float, base: float | None, *, in_band: bool = True) -> PriceRow:
        layers = {"snn": (Parts("l", compute=own),)}
        layers |= {} if base is None else {HEADLINE: (Parts("l", compute=base),)}
        return PriceRow(name, "", "45 nm", "derived", "", in_band, layers)

    rows = [row("a", 1, 2), row("b", 2, 1), row("c", 3, 1), row("d", 1, None)]
    found = band([*rows, row("legacy", 1, 100, in_band=False)], HEADLINE)
    assert found is not None
    assert (found.min, found.median, found.max) == (0.5, 2.0, 3.0)
    assert found.verdict == "model-dependent"
    assert set(found.ratios) == {"a", "b", "c"}
    assert band(rows, "ann") is None


def test_at_break_even_a_model_prices_both_alike(result: EnergyResult) -> None:
    """E(a) equals the baseline where all spike counts are scaled by a; also where a list saturates."""
    lists = {price.name: price for price in PRICE_LISTS}
    loads = SpikingColumn("snn", masked=True).loads(result.counts)
    found = [point for point in result.break_even if point.scale is not None]
    assert found
    for point in found:
        assert point.scale is not None and point.spike_rate is not None
        scaled = [load.scaled(point.scale) for load in loads]
        priced = lists[point.model].of_spikes(scaled, Widths()) or ()
        total = sum(part.total for part in priced) * 1e-6
        assert total == pytest.approx(point.baseline_uj, rel=1e-6), point.model
        assert point.spike_rate == pytest.approx(point.scale * result.counts.spike_rate)
        synapses = result.counts.spikes_per_synapse
        assert point.spikes_per_synapse == pytest.approx(point.scale * synapses)


def test_no_break_even_where_idling_costs_more_than_the_baseline() -> None:
    """Membrane traffic grows with the potential's width, and passes the baseline on the way."""
    passed: list[float] = []
    network = spiking(pruned_graph())
    counts = count(network, samples(1), 1)
    for bits in range(1, 17):
        found = priced(network, counts, widths=Widths(state=bits))
        for point in found.break_even:
            assert (point.scale is None) == (point.idle_uj >= point.baseline_uj), point.model
            assert (point.reason == NO_BREAK_EVEN) == (point.scale is None)
        passed += [p.idle_uj / p.baseline_uj for p in found.break_even if p.model == "step"]
    assert passed == sorted(passed) and passed[0] < 1 < passed[-1]
    assert any(1 <= ratio < 1.5 for ratio in passed)


def test_the_result_is_plain_data_with_the_agreed_keys(result: EnergyResult) -> None:
    plain = json.loads(json.dumps(result.to_dict()))
    assert {"model", "n", "counts", "prices", "band", "memory", "break_even_spike_rate"} <= set(
        plain
    )
    assert plain["n"] == 3 and plain["model"] == "small" and plain["data"] == "noise"
    assert {"against", "min", "median", "max", "verdict"} <= set(plain["band"])
    assert plain["band"]["against"] == HEADLINE
    for row in plain["prices"]:
        assert {"name", "node", "evidence", *COLUMNS} <= set(row)
        for column, parts in row["layers"].items():
            spent = sum(v for part in parts for v in part.values() if not isinstance(v, str))
            assert spent == pytest.approx(row[column])
    assert result.memory is not None
    assert plain["memory"]["weights_nonzero"] == result.counts.total("nonzero_weights")


def test_cores_of_a_chip_by_hand() -> None:
    """A layer of 3000 x 5000 8-bit weights takes 115 cores of 2**20 bits; they cannot read 5000 inputs.

    The 5000 neurons before it send to all 115 cores, 4096 a core: 141 cores, more than there are.
    Pruned to 1 weight in 100, with 13 bits of index, 4 cores hold it.
    """
    one = torch.ones(1, 1, dtype=torch.int8)
    nodes = (
        Node("x", Input((1,), Grid(Fraction(1), 0, 1))),
        Node("one", Linear(one, None), ("x",)),
        Node("a", Ladder(torch.tensor([[1]]), 0, 1, Fraction(1)), ("one",)),
        Node("two", Linear(one, None), ("a",)),
        Node("end", Readout(torch.tensor([1]), Fraction(1)), ("two",)),
    )
    graph = Graph(nodes, ("x",), ("end",))

    def layer(name: str, inputs: int, outputs: int, share: int) -> LayerCounts:
        size = inputs * outputs
        return LayerCounts(
            name, "Linear", inputs=inputs, outputs=outputs, weights=size, weight_bits=8,
            nonzero_weights=size // share, index_bits=13, event_levels=2,
        )  # fmt: skip

    def fits(share: int) -> ChipFit:
        layers = layer("one", 100, 5000, share), layer("two", 5000, 3000, share)
        return fit_loihi(graph, Counts(layers, 1, 1))

    first, second = fits(1).layers
    assert (second.cores, second.limit) == (115, "synapses")
    assert (first.cores, first.limit) == (141, "output axons")
    assert not fits(1).fits and fits(1).cores_used == 256 > fits(1).cores_available == 128
    (problem,) = fits(1).problems
    assert "'two'" in problem and "4096 input axons" in problem
    first, second = fits(100).layers
    assert (second.cores, first.cores) == (
        4,
        5,
    )  # 150 000 x 21 bits; 5000 / 1024 and 5000 x 4 / 4096


def test_a_small_binary_network_fits_and_graded_events_are_named() -> None:
    network = spiking(pruned_graph())
    counts = count(network, samples(), STEPS)
    fit = fit_loihi(network.graph, counts)
    assert fit.cores_used == 3
    assert not fit.fits and all("sizes" in problem for problem in fit.problems)  # -1, 0, 1


def test_word_lengths_below_one_are_refused() -> None:
    with pytest.raises(InputError, match="word lengths"):
        Widths(state=0)


def test_without_a_price_list_of_the_band_there_is_no_verdict() -> None:
    lists = tuple(price for price in PRICE_LISTS if price.name == "loihi1-table2")
    found = estimate_energy(spiking(pruned_graph()), samples(), STEPS, price_lists=lists)
    assert found.band is None and found.to_dict()["band"] is None
    shown = energy_page({"energy": json.loads(json.dumps(found.to_dict()))})
    assert "No verdict" in str(shown[0])


@pytest.mark.parametrize("coding", [Repeated(), AnalogFirstStep()])
def test_bits_that_spikes_caused_are_no_more_than_all(coding: Coding) -> None:
    bits = estimate_energy(spiking(pruned_graph(), coding), samples(), STEPS).bits
    assert 0 < bits.ns_ace_masked <= bits.s_ace_masked
    assert 0 < bits.ns_ace_dense <= bits.s_ace_dense


def test_a_layer_that_got_no_spike_reads_no_analog_input() -> None:
    silent = LayerCounts("a", "Linear", mac_masked=10, weight_bits=8, input_bits=4, event_levels=2)
    assert not silent.reads_analog_only
    assert replace(silent, analog_events=3).reads_analog_only
    counts = Counts((silent,), 1, STEPS)
    assert bits_of(counts, counts).s_ace_masked == 10 * STEPS * 8


def test_the_dense_network_runs_for_its_own_steps() -> None:
    dense, x = spiking(small_graph()), samples()
    found = estimate_energy(spiking(pruned_graph()), x, 2, dense=dense, dense_steps=STEPS)
    without = estimate_energy(spiking(pruned_graph()), x, 2, dense=dense)
    assert found.dense_counts is not None and without.dense_counts is not None
    assert found.dense_counts.to_dict() == count(dense, x, STEPS).to_dict()
    assert without.dense_counts.to_dict() == count(dense, x, 2).to_dict()
    assert found.dense_counts.synops > without.dense_counts.synops
