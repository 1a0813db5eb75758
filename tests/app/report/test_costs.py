"""Costs in the terminal: eighty columns, every number that the result holds, names as they are."""

import io
from dataclasses import replace
from typing import Any

import pytest
import torch
from rich.console import Console
from rich.table import Table

from spikemorph.conversion import convert_graph
from spikemorph.energy import PRICE_LISTS, EnergyResult, estimate_energy
from spikemorph.energy.results import Parts, PriceRow
from spikemorph.graph.grid import Grid
from spikemorph.measures.comparison import Compared, Comparison
from spikemorph.prune import PruneTask, prune_graph
from spikemorph.quant import Quantisation
from spikemorph.report.costs import comparison_table, cost_lines, price_table
from spikemorph.sources.models import load_graph
from spikemorph.spiking import SpikingNetwork

COLUMNS = (
    "ann", "integer_dense", "integer_dense_skipping", "integer_masked", "integer_masked_skipping",
    "snn_dense", "snn",
)  # fmt: skip


def inputs() -> torch.Tensor:
    return torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def network(sparsity: float) -> SpikingNetwork:
    graph = prune_graph("magnitude", PruneTask(load_graph("zoo:digits_mlp").graph, sparsity))
    grid = Grid.of(0.0, 1.0)
    return convert_graph(graph, inputs(), grid=grid, quantisation=Quantisation()).network


@pytest.fixture(scope="module")
def result() -> EnergyResult:
    """A network at 80 %, with the dense one as its baseline."""
    dense, sparse = network(0.0), network(0.8)
    return estimate_energy(sparse, inputs(), 5, dense=dense, model="net", data="data")


def shown(table: Table, width: int = 80) -> list[str]:
    """The table's lines in a terminal of that width."""
    terminal = Console(file=io.StringIO(), width=width)
    terminal.print(table)
    assert isinstance(terminal.file, io.StringIO)
    return terminal.file.getvalue().splitlines()


def priced(result: EnergyResult, *energies_uj: float) -> EnergyResult:
    """The result with one price row, of these energies."""
    spent = zip(COLUMNS, energies_uj, strict=True)
    layers = {column: (Parts("l", compute=energy * 1e6),) for column, energy in spent}
    row = PriceRow("spinnaker2-proto", "", "", "", "", in_band=False, layers=layers)
    return replace(result, prices=(row,))


def test_every_price_is_in_its_row_to_the_digits_shown(result: EnergyResult) -> None:
    lines = [line.replace(" *", "").split() for line in shown(price_table(result))]
    for row in result.prices:
        cells = next(line for line in lines if line and line[0] == row.name)[1:]
        assert len(cells) == len(COLUMNS)
        for cell, column in zip(cells, COLUMNS, strict=True):
            energy = row.energy_uj(column)
            assert (cell == "-") == (energy is None)
            if energy is not None:
                assert float(cell.replace(",", "")) == pytest.approx(energy, rel=0.05)
    assert {line[0] for line in lines if line} >= {price.name for price in PRICE_LISTS}


@pytest.mark.parametrize(
    ("energy", "cell"),
    [
        (0.0, "0"),
        (2.8123e-7, "2.8e-07"),
        (0.00028123, "0.00028"),
        (0.0028123, "0.00281"),
        (0.28123, "0.281"),
        (281.23, "281"),
        (2812.3, "2,812"),
        (281234.0, "281,234"),
        (999999.0, "999,999"),
        (2812345.0, "2.8e+06"),
    ],
)
def test_numbers_of_any_size_fit_eighty_columns(
    result: EnergyResult, energy: float, cell: str
) -> None:
    lines = shown(price_table(priced(result, *[energy] * 7)))
    assert max(map(len, lines)) <= 80
    row = next(line for line in lines if "spinnaker2-proto" in line)
    assert row.split()[2:] == [cell] * 7


def test_a_row_outside_the_band_is_marked_and_explained(result: EnergyResult) -> None:
    text = "\n".join(shown(price_table(result)))
    for row in result.prices:
        assert (f"{row.name} *" in text) != row.in_band
    assert "not in the band" in text
    inside = replace(result, prices=tuple(row for row in result.prices if row.in_band))
    assert "*" not in "\n".join(shown(price_table(inside)))


def test_sentences_say_the_results_numbers(result: EnergyResult) -> None:
    lines = cost_lines(result)
    text = "\n".join(lines)
    counts, dense, memory = result.counts, result.dense_counts, result.memory.to_dict()
    assert dense is not None
    ratio = dense.synops / counts.synops
    assert (
        f"synaptic operations: {counts.synops / 6:,.0f} per inference, {ratio:.2f}x fewer" in text
    )
    assert "measured on the dense network" in text
    assert f"skipping zeros: {result.band.verdict} ({result.band.min:.3g}x" in text
    assert f"{memory['weights_nonzero']:,} of {memory['weights_total']:,} are not zero" in text
    factors = [float(word) for word in lines[-1].replace("x", " ").split() if word[0].isdigit()]
    whole, *parts = factors
    product = parts[0] * parts[1] * parts[2]
    assert whole == pytest.approx(product, rel=0.02)  # the three that are shown multiply to it
    assert whole == pytest.approx(memory["dense_fp32_bits"] / memory["storage_bits"], rel=0.02)


def test_without_a_dense_network_the_sentence_says_what_it_stands_for() -> None:
    own = estimate_energy(network(0.8), inputs(), 5, model="net", data="data")
    counts, text = own.counts, "\n".join(cost_lines(own))
    ratio = counts.total("synops_dense_weights") / counts.synops
    assert ratio > 2
    assert f"{ratio:.2f}x fewer than the dense SNN ({own.dense_source})" in text
    assert "same spikes" in own.dense_source


def test_no_break_even_is_said_in_words(result: EnergyResult) -> None:
    none = replace(result, break_even=())
    assert any(line.startswith("no break-even") for line in cost_lines(none))


def row(**values: Any) -> Compared:
    plain: dict[str, Any] = {
        "name": "gradual-90-distilled", "kind": "SNN", "accuracy": 100.0, "agreement": 100.0,
        "mismatching_logits": 123456, "level": "A", "steps": 64, "sparsity": 99.01,
        "spikes_per_inference": 1e6, "synops": 123456789.4, "storage_bits": 8 * 123456789,
        "verdict": "lower", "energy": {}, "float_accuracy": 100.0, "integer_accuracy": 100.0,
    }  # fmt: skip
    return Compared(**(plain | values))


def test_large_networks_are_compared_in_eighty_columns() -> None:
    lines = shown(comparison_table(Comparison("data", (row(), row(name="a", level=None)), 9)))
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "…" not in text
    for word in ("99.01", "A, 64", "none, 64", "123,456", "123,456,789", "118 MiB"):
        assert word in text


def test_what_was_not_measured_is_a_dash() -> None:
    unknown = dict.fromkeys(
        ("accuracy", "mismatching_logits", "sparsity", "synops", "storage_bits", "float_accuracy",
         "integer_accuracy", "steps", "level")
    )  # fmt: skip
    lines = shown(comparison_table(Comparison("data", (row(name="n", **unknown),), 9)))
    cells = next(line for line in lines if line.strip().startswith("n ")).split()
    assert cells == ["n", "-", "-", "-", "-", "none,", "-", "-", "-", "-"]


@pytest.mark.parametrize("name", ["[red]x", "[/b]", "<b>x"])
def test_names_are_no_markup(result: EnergyResult, name: str) -> None:
    prices = shown(price_table(replace(result, model=name, data=name)))
    assert f"{name} on {name}" in "\n".join(prices)
    rows = shown(comparison_table(Comparison(name, (row(name=name),), 9)))
    assert f"compared on {name}, 9 samples" in "\n".join(rows)
    assert any(line.strip().startswith(name) for line in rows)
