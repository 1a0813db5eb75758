"""Headers that two readers could read in two ways, and JSON that says two things, are refused.

Held by these tests: a key that may be there twice, a hole or an overlap between tensors, bytes
behind the last one, NaN, endless nesting, a file that chooses which module is imported.
"""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import forged, refused

from spikemorph.graph import InputError
from spikemorph.graph.containers import content_of, read_content
from spikemorph.graph.packing import pack, unpack
from spikemorph.graph.plain import DEEPEST, read_plain
from spikemorph.sources.factories import read_weights

Run = Callable[..., tuple[int, str, str]]
GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def container(header: str, body: bytes) -> bytes:
    text = header.encode()
    return struct.pack("<Q", len(text)) + text + body


def test_an_honest_file_is_read() -> None:
    content = content_of(container(json.dumps({"a": GOOD}), struct.pack("<2f", 1, 2)), "f")
    assert content.tensors("f")["a"].tolist() == [1, 2] and content.texts == {}


@pytest.mark.parametrize(("header", "size"), [
    ('{"a": %s, "a": %s}' % ((json.dumps(GOOD),) * 2), 8),
    ('{"__metadata__": {"kind": "a", "kind": "b"}}', 0),
    ('{"__metadata__": {"kind": 1}}', 0),
    (json.dumps({"a": GOOD}), 9),
    (json.dumps({"a": GOOD}), 7),
    (json.dumps({"a": GOOD, "b": GOOD}), 8),
    (json.dumps({"a": GOOD, "b": GOOD | {"data_offsets": [4, 12]}}), 12),
    (json.dumps({"a": GOOD, "b": GOOD | {"data_offsets": [12, 20]}}), 20),
    (json.dumps({"a": GOOD | {"data_offsets": [8, 0]}}), 8),
    (json.dumps({"a": GOOD | {"shape": [3]}}), 8),
    (json.dumps({"a": GOOD | {"shape": [2**40, 2**40]}}), 8),
    (json.dumps({"a": GOOD | {"shape": [-1]}}), 8),
    (json.dumps({"a": GOOD | {"dtype": "F33"}}), 8),
    (json.dumps({"a": GOOD | {"more": 1}}), 8),
    (json.dumps({"a": [GOOD]}), 8),
    ("[]", 0), ("", 0), ("{" * 9, 0), ("[" * 100_000, 0), ('{"a": NaN}', 0),
])  # fmt: skip
def test_a_header_that_is_not_one_thing_is_refused(header: str, size: int, tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    path.write_bytes(container(header, bytes(size)))
    for read in (lambda: read_content(path).tensors(path), lambda: read_weights(path)):
        with pytest.raises(InputError, match=r"f\.safetensors: not a readable safetensors file"):
            read()


@pytest.mark.parametrize(("offsets", "size", "words"), [
    ([[0, 8], [0, 8]], 8, "overlap"), ([[0, 8], [12, 20]], 20, "hole"), ([[4, 12]], 12, "hole"),
    ([[0, 8]], 9, "no tensor"), ([[0, 8]], 7, "no tensor"),
])  # fmt: skip
def test_every_byte_belongs_to_one_tensor(offsets: list[list[int]], size: int, words: str) -> None:
    """Said by our own reader, before the library sees anything."""
    header = {f"t{k}": GOOD | {"data_offsets": ends} for k, ends in enumerate(offsets)}
    with pytest.raises(InputError, match=words):
        content_of(container(json.dumps(header), bytes(size)), "f")


@pytest.mark.parametrize("content", [b"", b"\x01", b"\xff" * 8, struct.pack("<Q", 2**62) + b"{}"])
def test_a_header_that_is_cut_off_is_refused(content: bytes) -> None:
    with pytest.raises(InputError, match="cut off"):
        content_of(content, "f")


@pytest.mark.parametrize("text", [
    '{"a": 1, "a": 1}', '[{"b": {"c": 1, "c": 2}}]', "NaN", "[" * (DEEPEST + 1) + "]" * (DEEPEST + 1),
    "1" * 401, "[" * 200_000, "{", "", b"\xff\xfe\xff", '"\ud800',
])  # fmt: skip
def test_json_that_says_two_things_or_none_is_refused(text: str | bytes) -> None:
    with pytest.raises(InputError, match=r"^part\.json: "):
        read_plain(text, "part.json")


def test_json_as_deep_as_allowed_is_read() -> None:
    assert read_plain("[" * DEEPEST + "]" * DEEPEST, "f") and read_plain("-Infinity", "f") < 0


def test_many_small_tensors_may_not_unfold_to_gigabytes() -> None:
    """Each within its own bound, together beyond what a file of their size may hold."""
    stored, header = pack({"zero": torch.zeros(5_000_000)})
    many = {f"t{k}": stored["zero"] for k in range(20)}
    with pytest.raises(InputError, match="all tensors together"):
        unpack(many, dict.fromkeys(many, header["zero"]), "f")


def test_a_network_does_not_choose_what_is_imported(
    spikemorph: Run, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its note of the float model may name a network of the zoo; a factory would be code."""
    mark = tmp_path / "mark"
    (tmp_path / "evil.py").write_text(f"open({str(mark)!r}, 'w')\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    def change(plain: Any, tensors: Any) -> None:
        plain["notes"]["source"] = "evil:factory"

    path = tmp_path / "n.safetensors"
    path.write_bytes((files / "exact.safetensors").read_bytes())
    other = forged(path, "network", change)
    refused(spikemorph("evaluate", other, "--data", "digits:test:20"), "source", "--model")
    assert not mark.exists()
