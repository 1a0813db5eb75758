"""The index of a run: every network with its link, its sentence, and its numbers beside the others'."""

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from completing import complete

from spikemorph.graph import InputError
from spikemorph.report.index import Network, networks_in, render_index, write_run
from spikemorph.report.page.sentence import sentence
from spikemorph.report.record import Report

ROWS = [{"name": "z <1>", "accuracy": 90.0, "synops": 5.0},
        {"name": "a", "accuracy": 95.0, "synops": 50.0}]  # fmt: skip
COMPARISON = complete("comparison", {"data": "digits:test", "n": 3, "networks": ROWS})
SETTLED = {"steps_max": 3, "steps_mean": 2.0, "mismatching_logits": 0, "silent_share": 100.0}
GATE = {"name": "a", "title": "a", "passed": False, "detail": "", "why": "", "exceptions": []}


def parts(accuracy: float, worst: float) -> dict[str, Any]:
    """The parts of one network's run."""
    eps = [
        {
            "eps": k / 255,
            "attacks": [],
            "worst_case": left,
            "ci95": [0.0, 90.0],
            "correct": 1,
            "n": 3,
        }
        for k, left in ((8, worst), (32, 0.0))
    ]
    evaluation = {
        "model": "net", "data": "digits:test", "n": 3, "outputs": 10, "neuron": "if",
        "float_accuracy": None, "integer_accuracy": accuracy, "curve": [],
        "settled": {**SETTLED, "accuracy": accuracy},
        "certificate": {"level": "A", "steps_required": 4, "steps_used": 4},
    }  # fmt: skip
    robustness = {
        "model": "net", "data": "digits:test", "n": 3, "kind": "exact", "steps": 4, "classes": 10,
        "norm": "linf", "seed": 0, "sparsity": {"weights": None, "nonzero": None},
        "clean": {"accuracy": accuracy, "low": 1.0, "high": 99.0}, "eps": eps,
        "curves": {"accuracy_vs_eps": {"worst case": [[8 / 255, worst], [32 / 255, 0.0]]},
                   "accuracy_vs_steps": {}, "loss_vs_steps": {}},
        "paths": [], "gates": [GATE], "examples": [], "corruptions": None,
    }  # fmt: skip
    return {
        "evaluation": complete("evaluation", evaluation),
        "robustness": complete("robustness", robustness),
        "comparison": COMPARISON,
    }


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder of two runs, beside folders and files that are none."""
    for name, own in (("a", parts(95.0, 12.5)), ("z <1>", parts(90.0, 25.0))):
        (tmp_path / name).mkdir()
        for part, plain in own.items():
            (tmp_path / name / f"{part}.json").write_text(json.dumps(plain))
    (tmp_path / "blocks").mkdir()
    (tmp_path / "blocks" / "0.json").write_text("{}")
    (tmp_path / "comparison.json").write_text(json.dumps(COMPARISON))
    return tmp_path


def test_networks_are_found_in_the_order_in_which_the_run_compares_them(run: Path) -> None:
    assert [network.name for network in networks_in(run)] == ["z <1>", "a"]
    (run / "b").mkdir()
    (run / "b" / "sparsity.json").write_text('{"layers": []}')
    assert [network.name for network in networks_in(run)] == ["z <1>", "a", "b"]
    assert networks_in(run / "a") == networks_in(run / "none") == ()


def test_every_link_leads_to_a_page_and_every_network_has_its_sentence(run: Path) -> None:
    networks = networks_in(run)
    index = write_run(run, networks)
    page = index.read_text()
    links = [link for link in re.findall(r'href="([^"#]*)"', page) if not link.startswith("data:")]
    assert links == [network.link for network in networks for _ in range(1)] * 2
    assert links[0] == "z%20%3C1%3E/report.html"
    assert (run / "z <1>" / "report.html").read_text().startswith("<!")
    assert (run / "a" / "report.html").is_file()
    for network in networks:
        assert sentence(network.report.parts) in unescape(page)
    assert "a is right most often (95.00 %)" in page and "<1>" not in page
    assert f"<h1>{run.name}</h1>" in page


def test_the_table_has_the_headline_of_each_never_without_its_flags(run: Path) -> None:
    page = unescape(render_index("two", networks_in(run)))
    rows = re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)[:3]
    cells = [re.sub(r"<[^>]*>", "|", row) for row in rows]
    assert "Energy verdict" not in cells[0]  # a column that no network fills
    assert "Robust accuracy" in cells[0] and "Sanity gates" in cells[0]
    for row, accuracy, worst in (
        (cells[1], "90.00 %", "25.00 %"),
        (cells[2], "95.00 %", "12.50 %"),
    ):
        assert accuracy in row and f"{worst} at 8/255" in row and "1 red flag" in row
    titles = re.findall(r"<title>(.*?)</title>", page)
    assert "a, eps 8/255: 12.50 % (0.0 to 90.0)" in titles  # drawn over eps, with intervals


def test_runs_that_measured_little_are_a_page_too(tmp_path: Path) -> None:
    page = render_index("bare", (Network("n", Report({"sparsity": {"layers": []}})),))
    assert "1 network." in page and 'href="n/report.html"' in page
    assert 'id="comparison"' not in page and 'id="robustness"' not in page


def test_a_damaged_part_is_named_with_its_folder(run: Path) -> None:
    (run / "a" / "evaluation.json").write_text("{")
    with pytest.raises(InputError, match=r"^a/evaluation\.json"):
        networks_in(run)
