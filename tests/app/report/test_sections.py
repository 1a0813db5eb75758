"""Every section says what its part says: numbers by hand, plain words, names escaped."""

import re
from html import unescape
from typing import Any

import pytest
from completing import complete, words_of

from spikemorph import load_graph
from spikemorph.graph import UnsupportedError
from spikemorph.measures import inspection
from spikemorph.measures.inspection import (
    ANALOG,
    DEAD,
    FACTORS,
    FOLDED,
    IDLE,
    JOINED,
    KEPT,
    RELAY,
    SUMMED,
    TAKEN,
    inspect_failure,
    inspect_graph,
)
from spikemorph.report import formats
from spikemorph.report.blocks import Block, Facts, Figure, Prose, Table
from spikemorph.report.html import missing_parts, render_report
from spikemorph.report.page import (
    accuracy,
    certificate,
    comparison,
    model,
    sparsity,
    spikes,
)
from spikemorph.report.page.costs import energy, memory
from spikemorph.report.page.summary import key_figures
from spikemorph.report.record import Report
from spikemorph.report.sections import SECTIONS, Section, sections_of

EVIL = "<script>alert('x')</script>\"&amp;"
POINT = {"accuracy": 75.0, "agreement": 50.0, "mismatching_logits": 3, "spikes_per_inference": 8.5}
EVALUATION: dict[str, Any] = complete("evaluation", {
    "model": "net", "data": "digits:test", "n": 4, "outputs": 10, "neuron": "if",
    "float_accuracy": 100.0, "integer_accuracy": 75.0,
    "curve": [{"steps": 1, **POINT}, {"steps": 4, **POINT, "mismatching_logits": 0}],
    "settled": {"steps_max": 3, "steps_mean": 2.25, "accuracy": 75.0, "mismatching_logits": 0,
                "silent_share": 100.0},
    "certificate": {"level": "A", "steps_required": 4, "steps_used": 4},
})  # fmt: skip
CERTIFICATE: dict[str, Any] = complete("certificate", {
    "level": "A", "steps_required": 7, "steps_used": 7, "input_steps": 1, "masks": [],
    "layers": [{"node": "relu", "neuron": "if", "smin": 0, "smax": None, "gate": 1, "takes": None,
                "final": 7, "sum_bits": 18, "ladder_hash": "abc"}],
    "network_hash": "0123456789abcdef" * 4, "refusals": [],
})  # fmt: skip
ACTIVITY: dict[str, Any] = complete("activity", {
    "n": 2, "steps": 2, "sample": 1,
    "layers": [
        {"node": "a", "neurons": 10, "positive": [6.0, 1.0], "negative": [0.0, 1.0],
         "silent_share": 30.0, "firing_rate": 0.4},
        {"node": "b", "neurons": 4, "positive": [2.0, 0.0], "negative": [0.0, 0.0],
         "silent_share": 50.0, "firing_rate": 0.25},
    ],
    "raster": [{"node": "a", "neurons": 10, "shown": [0, 5], "spikes": [[5, 1, 2], [5, 2, -1]]}],
})  # fmt: skip
MEMORY: dict[str, Any] = {
    "weights_total": 1000, "weights_nonzero": 100, "storage_bits": 1000, "index_bits": 200,
    "format": "delta", "dense_fp32_bits": 32_000,
    "factors": {"quantisation": 4.0, "sparsity": 10.0, "index_overhead": 0.8},
}  # fmt: skip
BAND = {"against": "integer_masked_skipping", "min": 0.5, "median": 0.9, "max": 1.5,
        "verdict": "model-dependent", "ratios": {"p": 0.5, "q": 0.9, "r": 1.5}}  # fmt: skip
SPENT = {"snn": [{"node": "a", "compute": 0.15, "routing": 0.1}]}
PRICE = {"name": "p", "node": "45 nm", "evidence": "derived", "ann": 2.0, "snn": 0.25,
         "in_band": True, "layers": SPENT}  # fmt: skip
ENERGY: dict[str, Any] = complete("energy", {
    "model": "net", "n": 4, "band": BAND, "prices": [PRICE],
    "counts": {"samples": 4, "totals": {"synops": 400}}, "memory": MEMORY,
})  # fmt: skip


def texts(blocks: list[Block]) -> list[str]:
    return [block.text for block in blocks if isinstance(block, Prose)]


def table(blocks: list[Block], caption: str) -> list[list[str]]:
    """A table's rows, its foot among them, as texts."""
    found = next(b for b in blocks if isinstance(b, Table) and caption in b.caption)
    rows = [*found.rows, found.foot] if found.foot else found.rows
    return [[cell if isinstance(cell, str) else cell.text for cell in row] for row in rows]


def marks(blocks: list[Block], title: str) -> list[str]:
    """What a reader sees who points at the marks of a figure."""
    figures = [own for block in blocks for own in getattr(block, "figures", (block,))]
    found = next(f for f in figures if isinstance(f, Figure) and f.title == title)
    return [unescape(text) for text in re.findall(r"<title>(.*?)</title>", found.draw(368))]


def test_accuracy_tells_the_two_gaps_apart_and_whether_they_are_proved() -> None:
    blocks = accuracy.accuracy({"evaluation": EVALUATION})
    gaps, end = texts(blocks)
    assert "Integer network 75.00 % (−25.00 points, measured)" in gaps
    assert "Spiking network 75.00 % (+0.00 points, proved zero for all inputs)" in gaps
    assert "0 of 40 output integers differ" in end and "2.25 steps on average and 3" in end
    assert table(blocks, "in numbers")[0] == ["1", "75.00 %", "50.00 %", "3 of 40", "8.50"]
    assert "after step 1: 3 of 40 differ" in marks(blocks, "Mismatching logits")
    assert "exact from here" in marks(blocks, "Accuracy over time")


def test_a_rate_coded_network_is_compared_with_the_float_one() -> None:
    curve = [{**point, "mismatching_logits": None} for point in EVALUATION["curve"]]
    settled = {**EVALUATION["settled"], "mismatching_logits": None}
    part = {**EVALUATION, "integer_accuracy": None, "curve": curve, "settled": settled,
            "certificate": {"level": None, "steps_required": None}}  # fmt: skip
    blocks = accuracy.accuracy({"evaluation": part})
    assert "rate-coded network on 75.00 % (−25.00 points)" in texts(blocks)[0]
    assert "differ" not in " ".join(texts(blocks))
    assert len(marks(blocks, "Spikes of one inference")) == 2
    assert "Not in this run" in render_report(Report({"evaluation": part}))


def test_the_certificate_in_plain_words() -> None:
    blocks = certificate.certificate({"certificate": CERTIFICATE})
    assert "for every input, after 7 time steps" in texts(blocks)[0]
    assert table(blocks, "proved")[0][2:7] == ["0 to no end", "1", "no bound", "7", "18"]
    refused = {**CERTIFICATE, "level": None, "refusals": ["node 'relu': no bound"]}
    first, *rest = texts(certificate.certificate({"certificate": refused}))
    assert first.startswith("No certificate") and "node 'relu': no bound" in rest


def test_masks_of_the_certificate_are_listed() -> None:
    mask = {"node": "fc", "weights": 20, "kept": 5, "nonzero": 4, "mask_hash": "ff00"}
    blocks = certificate.certificate({"certificate": {**CERTIFICATE, "masks": [mask]}})
    assert table(blocks, "Masks") == [["fc", "20", "5", "4", "ff00"]]


def test_spikes_add_up_to_the_total() -> None:
    blocks = spikes.spikes({"activity": ACTIVITY})
    assert "sends 10 spikes from 14 neurons" in texts(blocks)[0]
    assert "busiest layer is a, with 80.0 %" in texts(blocks)[0]
    first, second, total = table(blocks, "Spikes of one inference")
    assert int(first[2]) + int(second[2]) == int(total[2]) == 10
    assert first[3] == "12.5 %" and total[3] == "10.0 %"
    assert marks(blocks, "Spikes per layer and step")[1] == (
        "a, step 2: 1 positive, 1 negative spikes"
    )


def test_the_raster_shows_every_recorded_spike() -> None:
    blocks = spikes.rasters({"activity": ACTIVITY})
    assert marks(blocks, "a") == ["neuron 0: silent", "neuron 5: +2 at step 1, −1 at step 2"]
    assert "evenly spaced" in texts(blocks)[0]


def test_sparsity_is_of_all_weights_together() -> None:
    layers = [
        {"node": "a", "weights": 100, "kept": 100, "nonzero": 50, "mask_hash": "a1"},
        {"node": "b", "weights": 900, "kept": 900, "nonzero": 50, "mask_hash": "b1"},
    ]
    blocks = sparsity.sparsity({"sparsity": {"layers": layers}})
    (said,) = texts(blocks)
    assert said == "100 of 1,000 weights of the float network are not zero: it is 90.00 % sparse."
    masked = [{**layers[0], "kept": 60}, {**layers[1], "kept": 50}]
    (said,) = texts(sparsity.sparsity({"sparsity": {"layers": masked}}))
    assert "Its masks keep 110." in said
    assert [row[3] for row in table(blocks, "masks")] == ["50.00 %", "94.44 %", "90.00 %"]


def test_the_energy_verdict_is_the_bands_and_never_more() -> None:
    words = {"lower": "Lower energy under all 3", "higher": "Higher energy under all 3"}
    for verdict in ("lower", "higher", "model-dependent"):
        part = {**ENERGY, "band": {**BAND, "verdict": verdict}}
        first = texts(energy.energy({"energy": part}))[0]
        assert first.startswith(words.get(verdict, "Lower or higher energy depends"))
        assert "0.500× to 1.50× (median 0.900×)" in first and "same mask, skips zeros" in first


def test_energy_per_layer_and_prices() -> None:
    blocks = energy.energy({"energy": ENERGY})
    row = table(blocks, "under every price list")[0]
    assert row == ["p", "2.00 µJ", "–", "–", "–", "250 nJ", "45 nm, derived"]
    title = "Energy per layer under p, by what it is spent on"
    assert marks(blocks, title) == ["a: 150 nJ compute", "a: 100 nJ routing"]
    assert marks(blocks, "The band")[0] == "p: 0.500× of quantised ANN, same mask, skips zeros"


def test_the_memory_factors_multiply_to_the_ratio() -> None:
    text = texts(memory.memory({"energy": ENERGY}))[0]
    ratio, *factors = (float(number) for number in re.findall(r"([\d.]+)×", text))
    product = factors[0] * factors[1] * factors[2]
    assert ratio == 32.0 == pytest.approx(product)
    assert memory.memory({"energy": {**ENERGY, "memory": None}}) == []


def test_the_best_of_a_row_is_bold_and_equals_are_not() -> None:
    networks = [
        {"name": "a", "accuracy": 90.0, "synops": 5.0, "steps": 4, "energy": {"p": 1.0}},
        {"name": "b", "accuracy": 95.0, "synops": None, "steps": 4, "energy": {"p": 0.5, "q": 2.0}},
    ]
    part = complete("comparison", {"data": "d", "networks": networks})
    found = next(b for b in comparison.comparison({"comparison": part}) if isinstance(b, Table))
    bold = {row[0]: [c.text for c in row[1:] if c.tone == "best"] for row in found.rows}  # type: ignore[union-attr]
    assert bold["Accuracy"] == ["95.00 %"] and bold["Time steps"] == []
    assert bold["Energy, p"] == ["500 nJ"] and bold["Energy, q"] == []
    assert "Certificate" not in bold


@pytest.mark.parametrize("name", ["digits_cnn", "digits_resnet", "digits_mlp"])
def test_every_fate_of_a_node_is_told_and_none_twice(name: str) -> None:
    found = inspect_graph(name, load_graph(f"zoo:{name}").graph)
    groups = {model.fate(node) for node in found.to_dict()["nodes"]}
    assert {model.NEURONS, model.WEIGHTS, model.KEPT} <= groups
    assert (model.FOLDED in groups) == any(node.op == "BatchNorm" for node in found.nodes)
    blocks = model.conversion({"model": Report({"model": found.to_dict()}).parts["model"]})
    facts = next(block for block in blocks if isinstance(block, Facts))
    assert ("Stayed analog", "nothing") in facts.rows


def test_no_reason_of_the_inspection_is_unknown_to_the_page() -> None:
    known = [start for start, _ in model._BEGINNINGS]
    told = (DEAD, IDLE, ANALOG, RELAY, FOLDED, TAKEN, FACTORS, SUMMED, JOINED, KEPT)
    for reason in (*told, *(reason for _, reason in inspection._REASONS)):
        assert any(reason.startswith(start) for start in known), reason


def test_a_model_that_does_not_convert_says_what_stops_it() -> None:
    part = inspect_failure("net", UnsupportedError([])).to_dict()
    part["nodes"] = [{"name": "fft", "op": "FFT", "shape": None, "converts": False, "reason": "no"}]
    blocks = model.conversion({"model": Report({"model": part}).parts["model"]})
    assert texts(blocks) == ["1 node cannot be converted, so there is no network yet."]


def evil_parts() -> dict[str, Any]:
    """Every part, with markup in every text that a user or a file can choose."""
    node = {"name": EVIL, "op": EVIL, "shape": [1], "converts": True, "reason": EVIL}
    layer = {"node": EVIL, "weights": 2, "kept": 1, "nonzero": 1, "mask_hash": EVIL}
    price = {**PRICE, "name": EVIL, "node": EVIL, "evidence": EVIL, "title": EVIL, "note": EVIL,
             "layers": {"snn": [{"node": EVIL, "compute": 1.0}]},
             "constants": [{"name": EVIL, "value": 1, "unit": EVIL, "source": EVIL}]}  # fmt: skip
    return {
        "model": {"model": EVIL, "nodes": [node], "supported": True, "parameters": 1,
                  "about": {EVIL: EVIL}},
        "certificate": {**CERTIFICATE, "layers": [{**CERTIFICATE["layers"][0], "node": EVIL}],
                        "network_hash": EVIL, "refusals": [EVIL]},
        "evaluation": {**EVALUATION, "model": EVIL, "data": EVIL, "neuron": EVIL},
        "activity": {**ACTIVITY, "layers": [{**ACTIVITY["layers"][0], "node": EVIL}],
                     "raster": [{**ACTIVITY["raster"][0], "node": EVIL}]},
        "energy": complete("energy", {
            **ENERGY, "prices": [price], "dense_source": EVIL,
            "band": {**BAND, "against": EVIL, "verdict": EVIL, "ratios": {EVIL: 1.0}},
        }),
        "sparsity": {"layers": [layer], "method": EVIL},
        "comparison": complete("comparison", {
            "data": EVIL, "networks": [{"name": EVIL, "kind": EVIL, "level": EVIL}],
        }),
        "reproduce": complete("reproduce", {"command": EVIL, "versions": {EVIL: EVIL}}),
    }  # fmt: skip


def test_markup_in_names_is_text() -> None:
    page = render_report(Report(evil_parts()))
    assert page.count("<script>") == page.count("</script>") == 1  # the page's own
    assert "alert('x')" not in page and page.count("&lt;script&gt;") > 40
    assert "&amp;amp;" in page  # what looks escaped already is shown as it was


def test_key_figures_come_from_the_parts_or_are_absent() -> None:
    parts = Report({"evaluation": EVALUATION, "energy": ENERGY, "certificate": CERTIFICATE}).parts
    found = {figure.label: figure.value for figure in key_figures(parts)}
    assert found == {
        "Accuracy": "75.00 %", "Mismatching logits": "0", "Certificate": "A", "Time steps": "7",
        "Sparsity": None, "Synaptic operations": "100", "Stored size": "125 B",
        "Energy verdict": "model-dependent",
    }  # fmt: skip
    assert all(figure.value is None for figure in key_figures({}))


def test_an_empty_report_is_a_page_that_says_how_to_fill_it() -> None:
    page = render_report(Report({}))
    for section in sections_of({}, SECTIONS):
        assert f'id="{section.key}"' in page and section.made_by in words_of(page)
        assert f"{section.title} ({section.part}.json)" in words_of(page)


def test_a_network_trained_through_time_has_its_own_sections() -> None:
    """No certificate, no integer network: its page does not ask for them, and shows what it has."""
    timing = {
        "model": "timed", "data": "d", "n": 2, "counted": 2, "steps": 4, "accuracy": 50.0,
        "curve": [{"steps": 1, "accuracy": 0.0}, {"steps": 4, "accuracy": 50.0}],
        "whole": {"n": 9, "accuracy": 66.67, "float_accuracy": 77.78}, "neurons": 8,
        "spikes_per_inference": 12.5, "synops": 34567.0, "products": 100.0,
    }  # fmt: skip
    report = Report({"timing": timing})
    page = unescape(render_report(report))
    for word in ("66.67 %", "77.78 %", "34,567", "trained through time", "after step 4: 50.00 %"):
        assert word in page, word
    for key in ("certificate", "accuracy", "energy", "memory"):
        assert f'id="{key}"' not in page, key
    assert {"certificate", "evaluation", "energy", "timing"}.isdisjoint(missing_parts(report))
    assert "timing" not in missing_parts(Report({}))
    figures = {figure.label: figure.value for figure in key_figures(report.parts)}
    assert figures["Accuracy"] == "66.67 %" and figures["Time steps"] == "4"
    assert "Certificate" not in figures


def test_a_section_is_added_by_a_row() -> None:
    def storms(parts: Any) -> list[Block]:
        return [Prose(f"{parts['evaluation']['n']} storms")]

    row = Section("storms", "Storms", "evaluation", accuracy.SHAPE, storms, "spikemorph weather")
    report = Report({"evaluation": EVALUATION})
    assert "4 storms" in render_report(report, (*SECTIONS, row))
    assert "spikemorph weather" in words_of(render_report(Report({}), (*SECTIONS, row)))


def test_sections_have_keys_of_their_own_and_parts_one_shape() -> None:
    assert len({section.key for section in SECTIONS}) == len(SECTIONS)
    shapes = {section.part: section.shape for section in SECTIONS}
    assert all(shapes[section.part] is section.shape for section in SECTIONS)


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        (formats.significant(0.9996), "1.00"), (formats.significant(-0.00012), "−0.000120"),
        (formats.significant(123456.0), "123,000"), (formats.count(999.96), "1,000"),
        (formats.energy(0.9999), "1.00 µJ"), (formats.energy(1e-9), "0.00100 pJ"),
        (formats.size(8 * 1024 * 1024), "1.00 MiB"), (formats.percent(None), "–"),
        (formats.points(1.0, 2.0), "−1.00 points"), (formats.plural(0, "node"), "0 nodes"),
    ],
)  # fmt: skip
def test_numbers_are_written_one_way(written: str, wanted: str) -> None:
    assert written == wanted
