"""The robustness section: red flags come first, numbers keep their intervals, pictures their pixels."""

import base64
import io
import re
from html import unescape
from typing import Any

import pytest
from completing import complete, words_of
from PIL import Image

from spikemorph.graph import InputError
from spikemorph.report.blocks import Block, Checklist, Code, Facts, Figure, Fold, Prose, Table
from spikemorph.report.html import missing_parts, render_report
from spikemorph.report.page.robustness.examples import enlarged, enlargement
from spikemorph.report.page.robustness.section import TWIN, robustness
from spikemorph.report.page.summary import key_figures, title
from spikemorph.report.plots_pictures import png
from spikemorph.report.record import Report
from spikemorph.report.robust import eps_text, robustness_lines

EVIL = "<script>alert('x')</script>\"&amp;"
MEMBER = {"name": "pgd", "path": "relu", "loss": "ce", "steps": 10, "step_size": 0.01, "restarts": 1,
          "attacked": 4, "broken": 1, "cumulative": 60.0, "robust": 60.0, "alone": 60.0, "queries": 40,
          "zero_gradient_fraction": 0.25, "nan_gradient_fraction": 0.0, "seconds": 0.5}  # fmt: skip
BLIND = {**MEMBER, "name": "square", "path": None, "steps": None, "step_size": None, "attacked": 3,
         "broken": 2, "cumulative": 20.0, "alone": None, "zero_gradient_fraction": None}  # fmt: skip
ROW = {"eps": 8 / 255, "attacks": [MEMBER, BLIND], "worst_case": 20.0, "ci95": [3.6, 62.4],
       "correct": 1, "n": 5, "carried": 0}  # fmt: skip
GATES = [
    {"name": "a", "title": "Steps help", "passed": True, "detail": "4 %", "why": "Masked.",
     "exceptions": []},
    {"name": "b", "title": "Losses", "passed": False, "detail": "losses: ce", "why": "Saturated.",
     "exceptions": list(range(20))},
    {"name": "c", "title": "Transfer", "passed": None, "detail": "not run: no other network",
     "why": "Too weak.", "exceptions": []},
]  # fmt: skip
EXAMPLE = {"index": 7, "label": 3, "clean_class": 3, "adversarial_class": 8, "eps": 8 / 255,
           "attack": "pgd/relu", "shape": [1, 2, 3], "clean": [0, 10, 20, 30, 40, 250],
           "adversarial": [8, 2, 20, 30, 40, 255]}  # fmt: skip
PATHS = [
    {"name": "bptr", "exact": True, "robust": 80.0, "zero_gradient_fraction": 0.5,
     "nan_gradient_fraction": 0.0, "cosine": 1.0},
    {"name": "relu", "exact": True, "stand_in": True, "robust": 60.0, "zero_gradient_fraction": 0.0,
     "nan_gradient_fraction": 0.0, "cosine": None},
]  # fmt: skip
PART: dict[str, Any] = complete("robustness", {
    "model": "net", "data": "digits:test", "n": 5, "kind": "exact", "steps": 4, "classes": 10,
    "norm": "linf", "seed": 3, "sparsity": {"weights": 200, "nonzero": 50},
    "clean": {"correct": 4, "n": 5, "accuracy": 80.0, "low": 37.6, "high": 96.4},
    "eps": [ROW],
    "curves": {
        "accuracy_vs_eps": {"worst case": [[0.0, 80.0], [8 / 255, 20.0]],
                            "pgd": [[0.0, 80.0], [8 / 255, 60.0]],
                            "pgd (gates)": [[0.0, 75.0], [1.0, 0.0]]},
        "accuracy_vs_steps": {"pgd": [[10.0, 50.0], [20.0, 25.0]]},
        "loss_vs_steps": {"pgd": [[10.0, 1.5], [20.0, 1.75]]},
    },
    "paths": PATHS, "gates": GATES, "examples": [EXAMPLE],
    "corruptions": {"names": ["fog", "snow"], "severities": [1, 5],
                    "accuracy": [[100.0, 50.0], [75.0, 0.0]], "mean": 56.25},
    "reproduce": {"command": "spikemorph attack net", "versions": {"torch": "2"}},
})  # fmt: skip
TWIN_PART = {
    **PART, "kind": "ann", "steps": None, "gates": [], "paths": [], "corruptions": None,
    "eps": [{**ROW, "worst_case": 40.0, "ci95": [11.8, 76.9]}],
    "curves": {**PART["curves"], "accuracy_vs_eps": {"worst case": [[8 / 255, 40.0]]}},
}  # fmt: skip


def blocks(part: dict[str, Any], twin: dict[str, Any] | None = None) -> list[Block]:
    """The section, of parts that were checked as a run's are."""
    given = {"robustness": part} | ({} if twin is None else {TWIN: twin})
    return robustness(Report(given).parts)


def only(kind: type, found: list[Block]) -> list[Any]:
    """The blocks of a kind, also those that are folded."""
    inside = [own for b in found for own in (b.blocks if isinstance(b, Fold) else (b,))]
    flat = [own for b in inside for own in getattr(b, "figures", (b,))]
    return [b for b in flat if isinstance(b, kind)]


def table(found: list[Block], caption: str) -> list[list[str]]:
    chosen = next(b for b in only(Table, found) if caption in b.caption)
    return [[cell if isinstance(cell, str) else cell.text for cell in row] for row in chosen.rows]


def marks(found: list[Block], name: str) -> list[str]:
    """What a reader sees who points at the marks of a figure."""
    figure = next(f for f in only(Figure, found) if f.title == name)
    return [unescape(text) for text in re.findall(r"<title>(.*?)</title>", figure.draw(368))]


def test_red_flags_stand_before_every_number() -> None:
    first, *rest = blocks(PART)
    assert isinstance(first, Checklist) and first.tone == "bad"
    assert first.headline == "1 red flag: do not trust the robust accuracy below"
    assert [check.title for check in first.checks] == ["Losses"]
    assert first.checks[0].state == "RED FLAG" and first.checks[0].notes[0].endswith("Saturated.")
    page = render_report(Report({"robustness": PART}))
    assert page.index("1 red flag: do not trust") < page.index("in the worst case of")


@pytest.mark.parametrize(
    ("gates", "tone", "headline"),
    [
        ([GATES[0]], "good", "No red flag"),
        ([GATES[0], GATES[2]], "good", "No red flag"),
        ([GATES[2]], "warn", "No sanity gate was run"),
        ([], "warn", "No sanity gate was run"),
        (GATES, "bad", "1 red flag"),
        ([GATES[1], GATES[1]], "bad", "2 red flags"),
    ],
)
def test_nothing_is_called_sound_that_no_gate_passed(
    gates: list[Any], tone: str, headline: str
) -> None:
    first = blocks({**PART, "gates": gates})[0]
    assert isinstance(first, Checklist)
    assert first.tone == tone and first.headline.startswith(headline)


def test_the_checklist_has_every_gate_with_what_was_measured() -> None:
    _, checks = only(Checklist, blocks(PART))
    assert [(c.state, c.tone, c.found) for c in checks.checks] == [
        ("passed", "good", "4 %"),
        ("RED FLAG", "bad", "Losses: ce"),
        ("not run", "", "No other network"),
    ]
    assert checks.checks[0].notes == ("What a failure would mean: Masked.",)
    assert checks.checks[1].notes[1].endswith("14, 15 and 4 more.")
    assert len(only(Checklist, blocks({**PART, "gates": []}))) == 1


def test_accuracies_are_said_with_their_intervals() -> None:
    found = blocks(PART)
    lead = next(b.text for b in only(Prose, found) if b.tone == "lead")
    assert "Of 5 samples of digits:test" in lead
    assert "right on 80.00 % (37.6 to 96.4) without attack" in lead
    assert "20.00 % (3.6 to 62.4) in the worst case of 2 attacks on 1 gradient path" in lead
    facts = dict(next(b.rows for b in only(Facts, found)))
    assert (
        facts["Attacks, in this order"] == "pgd (10 steps, 1 gradient path); square (queries only)"
    )
    assert facts["Sparsity"] == "75.00 % (50 of 200 integer weights not zero)"
    assert (
        facts["Eps, inputs being 0 to 1"] == "8/255"
        and "every pixel" in facts["What an attacker may do"]
    )
    assert table(found, "Worst case at every eps")[1] == [
        "eps 8/255",
        "20.00 % (3.6 to 62.4)",
        "1 of 5",
    ]
    assert only(Code, found)[0].text == "spikemorph attack net"


def test_curves_show_every_attack_the_worst_case_on_top_and_its_interval() -> None:
    said = marks(blocks(PART), "Accuracy against eps")
    assert said == [
        "after pgd, eps 0: 80.00 %", "after pgd, eps 8/255: 60.00 %",
        "worst case, without attack: 80.00 % (37.6 to 96.4)",
        "worst case, eps 8/255: 20.00 % (3.6 to 62.4)",
    ]  # fmt: skip
    figure = next(f for f in only(Figure, blocks(PART)) if f.title == "Accuracy against eps")
    assert str(figure.draw(368)).count('class="error') == 6  # two intervals of three strokes
    assert marks(blocks(PART), "Accuracy up to the whole range of inputs")[1].endswith(
        "eps 1: 0.00 %"
    )
    assert marks(blocks(PART), "Accuracy over steps")[1] == "pgd, 20 steps: 25.00 %"
    assert marks(blocks(PART), "Loss over steps") == ["pgd, 10 steps: 1.50", "pgd, 20 steps: 1.75"]


def test_the_float_twin_stands_beside_where_the_run_has_it() -> None:
    found = blocks(PART, TWIN_PART)
    row = table(found, "Worst case at every eps")[1]
    assert row[3:] == ["40.00 % (11.8 to 76.9)", "−20.00 points"]
    assert "worst case, float twin, eps 8/255: 40.00 % (11.8 to 76.9)" in marks(
        found, "Accuracy against eps"
    )
    assert any("float twin" in b.text for b in only(Prose, found))
    assert not any("float twin" in b.text for b in only(Prose, blocks(PART)))
    other = {**TWIN_PART, "eps": [{**ROW, "eps": 0.5}]}
    assert table(blocks(PART, other), "Worst case at every eps")[1][3:] == ["–", "–"]


def test_members_are_listed_in_order_at_every_eps() -> None:
    found = blocks({**PART, "eps": [ROW, {**ROW, "eps": 16 / 255, "carried": 1}]})
    folds = [b.title for b in found if isinstance(b, Fold)]
    assert folds == [
        f"Every attack on every path at eps {k}/255: square broke most" for k in (8, 16)
    ]
    first, second = table(found, "2 members at eps 16/255")
    assert first[:9] == ["pgd", "relu", "ce", "10", "4", "1", "60.00 %", "60.00 %", "25.0 %"]
    assert second[:9] == ["square", "–", "ce", "–", "3", "2", "20.00 %", "–", "–"]
    notes = {b.caption: b.note for b in only(Table, found)}
    assert "1 more sample broke at a smaller eps" in notes["2 members at eps 16/255, in order"]
    assert "smaller eps" not in notes["2 members at eps 8/255, in order"]


def test_paths_are_told_apart_and_useless_gradients_stand_out() -> None:
    chosen = next(b for b in only(Table, blocks(PART)) if "Gradient paths" in b.caption)
    assert table(blocks(PART), "Gradient paths") == [
        ["bptr", "the network", "80.00 %", "50.0 %", "0 %", "1.0"],
        ["relu", "a stand-in", "60.00 %", "0 %", "0 %", "–"],
    ]
    assert [row[2].tone for row in chosen.rows] == ["", "best"]
    assert [row[3].tone for row in chosen.rows] == ["bad", "dim"]


def test_corruptions_are_said_in_a_line() -> None:
    """The mean, and where least is left over all severities; nothing where none were run."""
    found = PART["corruptions"]
    means = {
        n: sum(row) / len(row) for n, row in zip(found["names"], found["accuracy"], strict=True)
    }
    least = min(means, key=means.__getitem__)
    (line,) = [line for line in robustness_lines(PART) if line.startswith("corruptions")]
    assert f"{found['mean']:.2f} %" in line and f"under {least}: {means[least]:.2f} %" in line
    bare = robustness_lines({**PART, "corruptions": None})
    assert not any("corruptions" in line for line in bare)


def test_corruptions_are_shaded_by_accuracy() -> None:
    chosen = next(b for b in only(Table, blocks(PART)) if "corruptions" in b.caption)
    assert table(blocks(PART), "corruptions")[0] == ["fog", "100.0", "50.0", "75.0"]
    assert [cell.tone for cell in chosen.rows[1][1:3]] == ["heat-6", "heat-0"]
    assert chosen.headings == ("<Corruption", "1", "5", "Mean")
    assert not [
        b for b in only(Table, blocks({**PART, "corruptions": None})) if "corr" in b.caption
    ]


def test_the_change_is_enlarged_by_the_number_that_is_written() -> None:
    """The largest change is 8 levels: 127 // 8 = 15 times, so that pixels are 128 + 15 x change."""
    clean, changed = EXAMPLE["clean"], EXAMPLE["adversarial"]
    assert enlargement(clean, changed) == 15
    assert enlarged(clean, changed) == [248, 8, 128, 128, 128, 203]
    assert enlargement([0], [255]) == pytest.approx(127 / 255) and enlarged([0], [255]) == [255]
    assert enlargement([5], [5]) == 0 and enlarged([5], [5]) == [128]
    said = marks(blocks(PART), "Sample 7, label 3: 3 becomes 8")
    assert said == [
        "sample 7, clean: class 3", "sample 7, adversarial: class 8", "sample 7, change × 15"
    ]  # fmt: skip


@pytest.mark.parametrize("shape", [[1, 2, 3], [3, 2, 1]])
def test_pictures_hold_the_pixels_they_were_given(shape: list[int]) -> None:
    pixels = EXAMPLE["adversarial"]
    image = Image.open(io.BytesIO(png(pixels, shape)))
    assert image.size == (shape[2], shape[1])
    got = [image.getpixel((k % shape[2], k // shape[2])) for k in range(shape[1] * shape[2])]
    area = shape[1] * shape[2]
    wanted = [tuple(pixels[c * area + k] for c in range(shape[0])) for k in range(area)]
    assert [value if isinstance(value, tuple) else (value,) for value in got] == wanted


def test_pictures_are_inside_the_page_in_full() -> None:
    page = render_report(Report({"robustness": PART}))
    codes = re.findall(r'href="data:image/png;base64,([^"]*)"', page)
    assert [base64.b64decode(code) for code in codes] == [
        png(pixels, EXAMPLE["shape"])
        for pixels in (EXAMPLE["clean"], EXAMPLE["adversarial"],
                       enlarged(EXAMPLE["clean"], EXAMPLE["adversarial"]))
    ]  # fmt: skip


@pytest.mark.parametrize("shape", [[], [2, 2, 3], [1, 6], [1, -2, -3], [1, 2, 4], [1, 0, 6]])
def test_an_example_without_the_pixels_it_claims_is_named_not_drawn(shape: list[int]) -> None:
    found = blocks({**PART, "examples": [{**EXAMPLE, "shape": shape}, EXAMPLE]})
    assert sum(f.title.startswith("Sample") for f in only(Figure, found)) == 1
    assert any(b.text.startswith("1 example not drawn") for b in only(Prose, found))


@pytest.mark.parametrize("pixel", [256, -1, 0.5, None, "0", True])
def test_what_is_no_pixel_is_refused(pixel: object) -> None:
    example = {**EXAMPLE, "clean": [pixel, *EXAMPLE["clean"][1:]]}
    with pytest.raises(InputError, match=r"robustness.json: examples\[0\]\.clean\[0\].*0 to 255"):
        Report({"robustness": {**PART, "examples": [example]}})


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"clean": {**PART["clean"], "accuracy": 101}}, "clean.accuracy"),
        ({"eps": [{**ROW, "eps": -1}]}, r"eps\[0\].eps"),
        ({"eps": [{**ROW, "ci95": [1.0]}]}, r"eps\[0\].ci95"),
        ({"paths": [{**PATHS[1], "zero_gradient_fraction": 2}]}, "zero_gradient_fraction"),
        ({"curves": {**PART["curves"], "loss_vs_steps": {"pgd": [[0, 1]]}}}, "loss_vs_steps.pgd"),
        ({"gates": [{**GATES[0], "passed": "yes"}]}, r"gates\[0\].passed"),
        ({"n": 10**400}, "n: is too large"),
    ],
)
def test_numbers_that_cannot_be_are_refused_by_their_place(change: Any, where: str) -> None:
    with pytest.raises(InputError, match=f"robustness.json: .*{where}"):
        Report({"robustness": {**PART, **change}})


@pytest.mark.parametrize("key", [key for key in PART if key != "reproduce"])
def test_a_key_that_is_missing_is_named(key: str) -> None:
    for name in ("robustness", TWIN):
        with pytest.raises(InputError, match=f"{name}.json: has no key '{key}'"):
            Report({name: {k: v for k, v in PART.items() if k != key}})


def test_an_evaluation_of_nothing_is_a_page() -> None:
    bare = {**PART, "eps": [], "paths": [], "gates": [], "examples": [], "corruptions": None,
            "curves": {"accuracy_vs_eps": {}, "accuracy_vs_steps": {}, "loss_vs_steps": {}},
            "sparsity": {"weights": None, "nonzero": None}, "reproduce": {}}  # fmt: skip
    assert "No eps was attacked" in render_report(Report({"robustness": bare, TWIN: bare}))
    assert not [f for f in key_figures({"robustness": bare}) if f.target == "robustness"]


def test_markup_in_names_is_text() -> None:
    rows = [{**ROW, "attacks": [{**MEMBER, "name": EVIL, "path": EVIL, "loss": EVIL}]}]
    curves = {name: {EVIL: [[1, 1.0]], f"{EVIL}(gates)": [[1, 2.0]]} for name in PART["curves"]}
    gates = [{**GATES[1], "name": EVIL, "title": EVIL, "detail": EVIL, "why": EVIL}]
    part = {**PART, "model": EVIL, "data": EVIL, "kind": EVIL, "norm": EVIL, "eps": rows,
            "curves": curves, "gates": gates, "paths": [{**PATHS[1], "name": EVIL}],
            "examples": [{**EXAMPLE, "attack": EVIL}],
            "corruptions": {**PART["corruptions"], "names": [EVIL, EVIL]},
            "reproduce": {"command": EVIL}}  # fmt: skip
    page = render_report(Report({"robustness": part, TWIN: part}))
    assert page.count("<script>") == page.count("</script>") == 1
    assert "alert('x')" not in page and page.count("&lt;script&gt;") > 30


def test_the_head_of_the_page_never_shows_robust_accuracy_without_its_flags() -> None:
    found = {f.label: f for f in key_figures({"robustness": PART})}
    assert found["Robust accuracy"].value == "20.00 %" and found["Robust accuracy"].tone == "bad"
    assert "eps 8/255 (95 %: 3.6 to 62.4)" in found["Robust accuracy"].note
    assert (found["Sanity gates"].value, found["Sanity gates"].tone) == ("1 red flag", "bad")
    for gates, value, tone in (([GATES[0]], "0 red flags", "good"), ([], "not run", "warn")):
        found = {f.label: f for f in key_figures({"robustness": {**PART, "gates": gates}})}
        assert (found["Sanity gates"].value, found["Sanity gates"].tone) == (value, tone)
        assert found["Robust accuracy"].tone == ""
    assert title({"robustness": PART}) == "net"


def test_a_run_without_a_twin_lacks_nothing() -> None:
    assert {"robustness", TWIN}.isdisjoint(missing_parts(Report({"robustness": PART})))
    page = words_of(render_report(Report({})))
    assert "spikemorph attack NETWORK --data DATA --eps 8/255 --json RUN/robustness.json" in page


@pytest.mark.parametrize(
    ("eps", "text"),
    [(8 / 255, "8/255"), (0.251, "64/255"), (1e-6, "1e-06"), (0.0, "0"), (0.3, "0.3"), (1.0, "1")],
)  # fmt: skip
def test_an_eps_is_written_in_levels_of_a_pixel_where_it_is_one(eps: float, text: str) -> None:
    assert eps_text(eps) == text
