"""A report is data: what is no result is refused, by file and key; what is one survives JSON."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
from completing import complete
from hypothesis import given
from hypothesis import strategies as st

from spikemorph.graph import InputError
from spikemorph.graph.fields import Between
from spikemorph.report.html import render_report, write_report
from spikemorph.report.record import PARTS, Report, read_run
from spikemorph.report.shapes import (
    NUMBER,
    TEXT,
    WHOLE,
    ListOf,
    Maybe,
    Shape,
    as_plain,
    checked,
    shape_of,
)

SPARSITY: dict[str, Any] = complete(
    "sparsity",
    {
        "layers": [
            {"node": "a", "weights": 100, "nonzero": 10, "mask_hash": "f" * 64},
            {"node": "b", "weights": 300, "nonzero": 30, "mask_hash": "e" * 64},
        ]
    },
)
MODEL: dict[str, Any] = {
    "model": "net",
    "nodes": ({"name": "x", "op": "Input", "shape": (1, 8), "converts": True, "reason": "kept"},),
    "supported": True,
    "parameters": 400,
}


def put(folder: Path, name: str, content: Any) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / f"{name}.json").write_text(text)


def test_a_run_is_read_and_other_files_are_left_alone(tmp_path: Path) -> None:
    put(tmp_path, "sparsity", SPARSITY)
    put(tmp_path, "recipe", {"not": "ours"})
    (tmp_path / "network.safetensors").write_bytes(b"not read")
    assert read_run(tmp_path).parts == {"sparsity": SPARSITY}


def test_the_page_of_a_report_and_of_its_json_are_the_same(tmp_path: Path) -> None:
    report = Report({"model": MODEL, "sparsity": SPARSITY})
    write_report(report, tmp_path / "report.html")
    again = read_run(tmp_path / "report.json")
    assert again == report == Report.from_dict(report.to_dict())
    assert render_report(again) == (tmp_path / "report.html").read_text()
    put(tmp_path, "model", MODEL)
    put(tmp_path, "sparsity", SPARSITY)
    assert render_report(read_run(tmp_path)) == render_report(report)


def test_a_report_keeps_a_copy() -> None:
    part = json.loads(json.dumps(SPARSITY))
    report = Report({"sparsity": part})
    part["layers"].clear()
    report.to_dict()["parts"]["sparsity"]["layers"].clear()
    assert report.parts == {"sparsity": SPARSITY}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": 3}, "sparsity.json: layers: is 3, should be a list"),
        ({}, "sparsity.json: has no key 'layers'"),
        ({"layers": [{"node": "a", "weights": 1, "kept": 1}]}, "layers[0]: has no key 'nonzero'"),
        (
            {"layers": [{"node": "a", "weights": 1.5, "nonzero": 1}]},
            "sparsity.json: layers[0].weights: is 1.5, should be a whole number",
        ),
        ({"layers": [{"node": 7, "weights": 1, "nonzero": 1}]}, "layers[0].node: is 7, should be a text"),
        ({"layers": [], "target": "x" * 99}, "sparsity.json: target: is 'xxx"),
        ({"layers": [{"node": "a", "weights": True, "nonzero": 1}]}, "weights: is True"),
        ([], "sparsity.json: is [], should be an object"),
        ({"layers": [], "target": math.inf}, "sparsity.json: target: is inf"),
    ],
)  # fmt: skip
def test_a_part_that_is_no_result_is_refused_by_file_and_key(
    tmp_path: Path, change: Any, message: str
) -> None:
    put(tmp_path, "sparsity", change)
    with pytest.raises(InputError) as caught:
        read_run(tmp_path)
    text = str(caught.value)
    assert message in text and "\n" not in text and len(text) < 200


@pytest.mark.parametrize("text", ["{", "", "[1, 2", "\x00", '{"a": }', "[" * 100_000])
def test_what_is_no_json_is_refused_with_the_file(tmp_path: Path, text: str) -> None:
    put(tmp_path, "energy", text)
    with pytest.raises(InputError, match=r"^energy\.json"):
        read_run(tmp_path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(InputError, match=r"^model\.json: not readable"):
        read_run(tmp_path)


def test_an_empty_folder_is_refused_with_what_belongs_in_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"evaluation\.json"):
        read_run(tmp_path)
    with pytest.raises(InputError, match="no part of a run"):
        read_run(tmp_path / "missing")


@pytest.mark.parametrize("plain", [{}, [], {"format": "x"}, {"format": "spikemorph-report-1"}])
def test_a_file_that_is_no_report_is_refused(tmp_path: Path, plain: Any) -> None:
    put(tmp_path, "report", plain)
    with pytest.raises(InputError, match=r"report\.json"):
        read_run(tmp_path / "report.json")


def test_one_part_alone_is_a_report_of_it(tmp_path: Path) -> None:
    """As a command's --json wrote it; a file of another name says what names there are."""
    put(tmp_path, "comparison", {"data": "d", "networks": [], "n": 1})
    assert list(read_run(tmp_path / "comparison.json").parts) == ["comparison"]
    (tmp_path / "mine.json").write_text("{}")
    with pytest.raises(InputError, match=r"mine\.json: is no report; .* evaluation\.json"):
        read_run(tmp_path / "mine.json")


def test_unknown_parts_and_what_json_cannot_say_are_refused() -> None:
    with pytest.raises(InputError, match="weather: no part of a report"):
        Report({"weather": {}})
    odd = {"layers": [{"node": "a", "weights": torch.tensor(3), "nonzero": 1}]}
    with pytest.raises(InputError, match=r"sparsity\.json: layers\[0\]\.weights: a Tensor"):
        Report({"sparsity": odd})
    with pytest.raises(InputError, match="as key"):
        Report({"sparsity": {1: 2}})


@pytest.mark.parametrize("name", ["energy.html", "report.json"])
def test_the_page_never_overwrites_a_part_of_a_run(tmp_path: Path, name: str) -> None:
    put(tmp_path, "energy", "kept")
    with pytest.raises(InputError, match=r"choose report\.html"):
        write_report(Report({}), tmp_path / name)
    assert [file.name for file in tmp_path.iterdir()] == ["energy.json"]


plain_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(plain_data)
def test_plain_data_is_copied_as_json_would(value: Any) -> None:
    assert as_plain(value, "x") == value == json.loads(json.dumps(as_plain(value, "x")))


@given(plain_data)
def test_any_json_is_taken_or_refused_never_a_crash(value: Any) -> None:
    for name in PARTS:
        try:
            report = Report({name: value})
        except InputError:
            continue
        render_report(report)


def test_nesting_has_an_end() -> None:
    value: Any = []
    for _ in range(60):
        value = [value]
    with pytest.raises(InputError, match="nested"):
        as_plain(value, "x")


@dataclass(frozen=True)
class Inner:
    """A row of a result."""

    share: Annotated[float, Between(0, 100)]


@dataclass(frozen=True)
class Outer:
    """A result with a field of every kind, one that data has not, and a property."""

    name: str
    rows: tuple[Inner, ...]
    pair: tuple[int, bool]
    by_name: Mapping[str, float | None]
    images: torch.Tensor
    note: str | None = None

    @property
    def total(self) -> int:
        """Computed."""
        return len(self.rows)


def test_a_shape_is_what_a_dataclass_declares() -> None:
    shape = shape_of(Outer, leaving=("images",), computed=("total",), more=TEXT)
    good = {"name": "n", "rows": [{"share": 7}], "pair": [1, True], "by_name": {"k": None, "l": 2},
            "total": 1, "more": "m"}  # fmt: skip
    for taken in (good, {**good, "note": None}, {**good, "note": "n"}):
        checked(taken, shape, "x")
    wrong: dict[str, dict[str, Any]] = {
        "x: name: is 1, should be a text": {"name": 1},
        "x: rows[0].share: is 100.5, should be a number, 0 to 100": {"rows": [{"share": 100.5}]},
        "x: pair[1]: is 0, should be true or false": {"pair": [1, 0]},
        "x: pair: is [1], should be 2 items": {"pair": [1]},
        "x: by_name.k: is 'a', should be a number": {"by_name": {"k": "a"}},
        "x: note: is 2, should be a text": {"note": 2},
        "x: total: is 1.5, should be a whole number": {"total": 1.5},
        "x: more: is None, should be a text": {"more": None},
    }
    for message, change in wrong.items():
        with pytest.raises(InputError) as caught:
            checked({**good, **change}, shape, "x")
        assert str(caught.value).startswith(message)
    for key in good:
        with pytest.raises(InputError, match=f"has no key '{key}'"):
            checked({k: v for k, v in good.items() if k != key}, shape, "x")
    with pytest.raises(TypeError, match="Tensor"):
        shape_of(Outer)


def test_optional_keys_may_be_absent_but_not_wrong() -> None:
    shape: Shape = {"a": WHOLE, "b?": Maybe(ListOf(NUMBER))}
    for good in ({"a": 1}, {"a": 1, "b": None}, {"a": 1, "b": [1, 2.5], "more": object()}):
        checked(good, shape, "x")
    with pytest.raises(InputError, match=r"x: b\[1\]: is '2'"):
        checked({"a": 1, "b": [1, "2"]}, shape, "x")
    with pytest.raises(InputError, match="should be a text"):
        checked(None, TEXT, "x")
