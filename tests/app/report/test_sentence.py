"""The sentence on top of a report: what happened, and what was not done or is not to be trusted."""

from typing import Any

import pytest
from completing import complete

from spikemorph.report.page.sentence import sentence
from spikemorph.report.record import Report

EVALUATION: dict[str, Any] = complete("evaluation", {
    "model": "net", "data": "digits:test", "n": 4, "outputs": 10, "neuron": "if",
    "float_accuracy": 100.0, "integer_accuracy": 75.0, "curve": [],
    "settled": {"steps_max": 3, "steps_mean": 2.25, "accuracy": 75.0, "mismatching_logits": 0,
                "silent_share": 100.0},
    "certificate": {"level": "A", "steps_required": 4, "steps_used": 4},
})  # fmt: skip
BAND = {"against": "integer_masked_skipping", "min": 0.5, "median": 0.9, "max": 1.5,
        "verdict": "model-dependent", "ratios": {"p": 0.5, "q": 0.9, "r": 1.5}}  # fmt: skip
ENERGY: dict[str, Any] = complete(
    "energy", {"model": "net", "n": 4, "band": BAND, "prices": [], "counts": {}}
)
SPARSITY = complete("sparsity", {"layers": [{"node": "a", "weights": 200, "nonzero": 50}]})
ROW = {"attacks": [], "ci95": [1.0, 99.0], "correct": 1, "n": 5}
PASSED, FLAG = ({"name": "a", "title": "a", "passed": passed, "detail": "", "why": "", "exceptions": []}
                for passed in (True, False))  # fmt: skip
ATTACKED: dict[str, Any] = complete("robustness", {
    "model": "net", "data": "d", "n": 5, "kind": "exact", "steps": 4, "classes": 10, "norm": "linf",
    "seed": 3, "sparsity": {"weights": None, "nonzero": None},
    "clean": {"accuracy": 80.0, "low": 37.6, "high": 96.4},
    "eps": [{**ROW, "eps": 4 / 255, "worst_case": 60.0}, {**ROW, "eps": 8 / 255, "worst_case": 40.0},
            {**ROW, "eps": 32 / 255, "worst_case": 0.0}],
    "curves": {"accuracy_vs_eps": {}, "accuracy_vs_steps": {}, "loss_vs_steps": {}},
    "paths": [], "gates": [PASSED], "examples": [], "corruptions": None,
})  # fmt: skip
NODE = {"name": "r", "op": "ReLU", "shape": [1], "converts": True, "reason": "a neuron layer"}
MODEL: dict[str, Any] = complete(
    "model", {"model": "net", "nodes": [NODE], "supported": True, "parameters": 1}
)
TIMING = complete("timing", {
    "model": "timed", "data": "d", "n": 2, "counted": 2, "steps": 4, "accuracy": 50.0, "curve": [],
    "whole": {"n": 9, "accuracy": 66.67, "float_accuracy": 77.78}, "neurons": 8,
    "spikes_per_inference": 12.5, "synops": 34567.0, "products": 100.0,
})  # fmt: skip


def said(**parts: Any) -> str:
    return sentence(Report(parts).parts)


def test_all_that_was_measured_is_one_sentence() -> None:
    text = said(evaluation=EVALUATION, energy=ENERGY, sparsity=SPARSITY, robustness=ATTACKED)
    assert text == (
        "This spiking network, 75.00 % of its weights zero, is right on 75.00 % of 4 samples of "
        "digits:test (its float network on 100.00 %), is proved to compute what its integer network "
        "does for every input, takes more or less energy than the quantised ANN with the same mask, "
        "skipping zeros, depending on the price list, and stays right on 60.00 % of 5 samples attacked "
        "at eps 4/255."
    )


@pytest.mark.parametrize(
    ("level", "differ", "words"),
    [
        ("B", 0, "for each input after which it was seen silent"),
        (None, 7, "has no certificate (7 of 40 output integers are not the integer network's)"),
        (None, None, "has no certificate"),
    ],
)
def test_nothing_is_called_proved_that_is_not(level: str | None, differ: Any, words: str) -> None:
    settled = {**EVALUATION["settled"], "mismatching_logits": differ}
    proof = {**EVALUATION["certificate"], "level": level}
    text = said(evaluation={**EVALUATION, "settled": settled, "certificate": proof})
    assert words in text and "proved" not in text


@pytest.mark.parametrize(
    ("verdict", "words"),
    [("lower", "less energy than"), ("higher", "more energy than"), ("?", "more or less energy than")],
)  # fmt: skip
def test_the_energy_is_the_bands_verdict(verdict: str, words: str) -> None:
    text = said(energy={**ENERGY, "band": {**BAND, "verdict": verdict}})
    assert f"takes {words} the quantised ANN" in text
    assert ("under all 3 price lists" in text) == (verdict != "?")
    assert "energy" not in said(energy={**ENERGY, "band": None}, evaluation=EVALUATION)


@pytest.mark.parametrize(
    ("gates", "words"),
    [
        ([PASSED], "at eps 4/255."),
        ([PASSED, FLAG], "at eps 4/255, which 1 red flag says not to trust."),
        ([FLAG, FLAG], "at eps 4/255, which 2 red flags say not to trust."),
        ([], "at eps 4/255, with no sanity gate run."),
    ],
)
def test_robustness_is_never_said_without_its_gates(gates: list[Any], words: str) -> None:
    assert said(robustness={**ATTACKED, "gates": gates}).endswith(words)


def test_the_eps_is_the_one_it_was_trained_for_else_the_smallest_never_the_largest() -> None:
    trained = said(robustness={**ATTACKED, "trained_eps": 8 / 255})
    assert "right on 40.00 % of 5 samples attacked at eps 8/255" in trained
    other = said(robustness={**ATTACKED, "trained_eps": 0.9})  # was not attacked
    assert "right on 60.00 % of 5 samples attacked at eps 4/255" in other
    zero = [{**ROW, "eps": 0.0, "worst_case": 80.0}, *ATTACKED["eps"]]
    assert "attacked at eps 4/255" in said(robustness={**ATTACKED, "eps": zero})
    assert "attacked at" not in said(robustness={**ATTACKED, "eps": []})


def test_other_runs_say_what_they_are() -> None:
    timed = "This spiking network, trained through time, is right on 66.67 % of 9 samples of d (its"
    assert said(timing=TIMING).startswith(timed)
    assert said(robustness={**ATTACKED, "kind": "ann"}).startswith("This float network is right on")
    assert said(model=MODEL) == "This model can be converted: 1 neuron layer from 1 node."
    refused = [{**NODE, "converts": False}, NODE]
    assert "no spiking form for 1 of 2 nodes" in said(model={**MODEL, "nodes": refused})
    networks = [{"name": "a", "accuracy": 90.0, "synops": 5.0}, {"name": "b", "accuracy": 95.0}]
    compared = complete("comparison", {"data": "d", "n": 3, "networks": networks})
    assert said(comparison=compared) == (
        "2 networks on d, 3 samples: b is right most often (95.00 %) and a needs the fewest synaptic "
        "operations (5 per inference)."
    )
    unlabelled = {**EVALUATION, "settled": {**EVALUATION["settled"], "accuracy": None}}
    assert "was run on 4 samples of digits:test, which have no labels" in said(
        evaluation=unlabelled
    )
    assert said().startswith("Nothing was measured")
