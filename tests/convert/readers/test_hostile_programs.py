"""A .pt2 archive that would run code, in whatever way, runs nothing: two readers never differ."""

import io
import json
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from spikemorph.convert import read_pt2
from spikemorph.convert.readers.pt2_programs import OddProgramError, parsed, program
from spikemorph.convert.readers.strict_zip import OddZipError, members, packed
from spikemorph.graph import InputError

MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The members of an exported program of open batch size."""
    path = tmp_path_factory.mktemp("honest") / "model.pt2"
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten())
    batch = {0: torch.export.Dim.AUTO}
    exported = torch.export.export(
        model.eval(), (torch.zeros(2, 1, 4, 4),), dynamic_shapes=(batch,)
    )
    torch.export.save(exported, path)
    return members(path.read_bytes())


Tamper = Callable[[Callable[[Any], None]], str]


@pytest.fixture
def tamper(honest: dict[str, bytes], tmp_path: Path) -> Tamper:
    """The refusal of a program whose description was changed."""

    def change(edit: Callable[[Any], None]) -> str:
        plain = json.loads(honest[MODEL])
        edit(plain)
        path = tmp_path / "evil.pt2"
        path.write_bytes(packed({**honest, MODEL: json.dumps(plain).encode()}).getvalue())
        with pytest.raises(InputError) as caught:
            read_pt2(path)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)
        return str(caught.value)

    return change


def armed(description: bytes, mark: Path) -> bytes:
    """A description whose open batch size is a call that leaves a mark."""
    plain = json.loads(description)
    call = f"__import__('pathlib').Path({str(mark)!r}).touch()"

    def arm(item: Any) -> None:
        if isinstance(item, dict):
            if "expr_str" in item:
                item["expr_str"] = call
            item = list(item.values())
        if isinstance(item, list):
            for inner in item:
                arm(inner)

    arm(plain)
    return json.dumps(plain).encode()


def raw_zip(content: list[tuple[bytes, bytes]]) -> bytes:
    """An archive whose names are written as they are, NUL bytes too."""
    body, listing = b"", b""
    for name, data in content:
        check = zlib.crc32(data)
        offset = len(body)
        common = struct.pack("<5H3I2H", 20, 0, 0, 0, 33, check, len(data), len(data), len(name), 0)
        body += b"PK\x03\x04" + common + name + data
        listing += b"PK\x01\x02" + struct.pack("<H", 20) + common
        listing += struct.pack("<3H2I", 0, 0, 0, 0, offset) + name
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, len(content), len(content), len(listing),
                      len(body), 0)  # fmt: skip
    return body + listing + end


def test_raw_zip_is_a_zip(honest: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "again.pt2"
    path.write_bytes(raw_zip([(b"a/" + k.encode(), v) for k, v in honest.items()]))
    assert read_pt2(path).outputs


@pytest.mark.parametrize("order", [1, -1])
def test_a_name_that_ends_at_nul_for_one_reader_only(
    order: int, honest: dict[str, bytes], tmp_path: Path
) -> None:
    """Python's zipfile sees the honest member twice; torch's reader sees the hostile one."""
    mark, path = tmp_path / "mark", tmp_path / "evil.pt2"
    hostile = armed(honest[MODEL], mark)
    pair = [(b"a/" + MODEL.encode(), hostile), (b"a/" + MODEL.encode() + b"\0", honest[MODEL])]
    rest = [(b"a/" + k.encode(), v) for k, v in honest.items() if k != MODEL]
    path.write_bytes(raw_zip([*rest, *pair[::order]]))
    with zipfile.ZipFile(path) as archive:  # the two readers of before do differ
        assert archive.read(f"a/{MODEL}") == pair[::order][-1][1]
    with pytest.raises(InputError, match="odd name"):
        read_pt2(path)
    assert not mark.exists()


def test_names_become_no_code(tamper: Tamper, tmp_path: Path) -> None:
    """torch executes Python that it builds of a program's names."""
    mark = tmp_path / "mark"
    name = f"n):\n    pass\nopen({str(mark)!r}, 'w')\ndef f(n"
    old = "b_1_num_batches_tracked"

    def edit(plain: Any) -> None:
        text = json.dumps(plain)
        assert f'"{old}"' in text
        again = json.loads(text.replace(f'"{old}"', json.dumps(name)))
        plain.clear()
        plain.update(again)

    assert "holds the name" in tamper(edit)
    assert not mark.exists()


def test_trees_import_nothing(
    tamper: Tamper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    (tmp_path / "armed_module.py").write_text(f"open({str(mark)!r}, 'w')\nfactory = list\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    context = {
        "default_factory_module": "armed_module",
        "default_factory_name": "factory",
        "dict_context": "[]",
    }
    tree = {"type": "collections.defaultdict", "context": context, "children_spec": []}

    def edit(plain: Any) -> None:
        signature = plain["graph_module"]["module_call_graph"][0]["signature"]
        signature["out_spec"] = json.dumps([1, tree])

    assert "holds the tree" in tamper(edit)
    assert not mark.exists()


@pytest.mark.parametrize(
    "size", ["9**9**9", "Pow(9, Pow(9, 9))", "factorial(999999)", "Symbol('s0', cls=print)",
             "s77.func", "(lambda: 1)()", "Integer(9)" + "*1" * 999, "[" * 500, "Symbol('x')", 7],
)  # fmt: skip
def test_sizes_are_sums_and_products(size: Any, honest: dict[str, bytes]) -> None:
    plain = json.loads(honest[MODEL])
    table = plain["graph_module"]["graph"]["tensor_values"]
    table["x"] = next(iter(table.values()))
    table["x"]["sizes"] = [{"as_expr": {"expr_str": size, "hint": None}}]
    with pytest.raises(OddProgramError, match="holds the size"):
        program(json.dumps(plain).encode())


@pytest.mark.parametrize(
    "target",
    ["torch.ops.aten._dir.append", "torch.ops.load_library.__call__", "torch.ops.aten.name.x",
     "_operator.attrgetter", "math.factorial", "torch.ops.higher_order.cond", "#x:y", 3],
)  # fmt: skip
def test_nodes_call_operators_of_torch(target: Any, tamper: Tamper) -> None:
    def edit(plain: Any) -> None:
        plain["graph_module"]["graph"]["nodes"][0]["target"] = target

    assert f"calls {str(target)!r}" in tamper(edit)


def test_many_symbols_are_not_counted_up_to(tamper: Tamper) -> None:
    """torch counts up to the number in a symbol's name."""

    def edit(plain: Any) -> None:
        plain["range_constraints"] = {"u99999999999": {"min_val": 0, "max_val": 1}}

    assert "u99999999999" in tamper(edit)


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": 1, "a": 2}',
        b"NaN",
        b"[1e999]",
        b"1" * 5000,
        b"[" * 100000,
        b"\xff",
        b"{",
        b"[Infinity]",
    ],
)
def test_json_that_readers_read_in_two_ways(text: bytes) -> None:
    with pytest.raises(OddProgramError):
        parsed(text)


def test_lists_too_deep_for_torch(tamper: Tamper) -> None:
    def edit(plain: Any) -> None:
        inner: Any = {"as_int": 1}
        for _ in range(80):
            inner = {"as_string_to_argument": {"a": inner}}
        plain["graph_module"]["graph"]["nodes"][0]["inputs"][0]["arg"] = inner

    assert "too deep" in tamper(edit)


Change = Callable[[dict[str, Any]], None]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda meta: meta.update(sizes=[{"as_int": 10**12}], strides=[{"as_int": 0}]), "repeats"),
        (lambda meta: meta.update(storage_offset={"as_int": 10**6}), "bytes"),
        (lambda meta: meta.update(strides=[{"as_int": 10**9}]), "bytes"),
        (lambda meta: meta.update(sizes=[{"as_int": -2}]), "odd sizes"),
        (lambda meta: meta.update(dtype=0), "not dense"),
        (lambda meta: meta.update(layout=1), "not dense"),
    ],
)
def test_stored_tensors_lie_within_their_bytes(
    change: Change, says: str, honest: dict[str, bytes], tmp_path: Path
) -> None:
    plain = json.loads(honest[WEIGHTS])
    change(plain["config"]["0.bias"]["tensor_meta"])
    path = tmp_path / "evil.pt2"
    path.write_bytes(packed({**honest, WEIGHTS: json.dumps(plain).encode()}).getvalue())
    with pytest.raises(InputError, match=says):
        read_pt2(path)


def test_a_tensor_without_bytes_holds_nothing(honest: dict[str, bytes], tmp_path: Path) -> None:
    """torch makes zeros of any size for a member of no bytes."""
    plain = json.loads(honest[WEIGHTS])
    payload = plain["config"]["0.bias"]
    payload["tensor_meta"].update(sizes=[{"as_int": 10**11}])
    content = {**honest, WEIGHTS: json.dumps(plain).encode()}
    content[f"data/weights/{payload['path_name']}"] = b""
    path = tmp_path / "evil.pt2"
    path.write_bytes(packed(content).getvalue())
    with pytest.raises(InputError, match="in 0 bytes"):
        read_pt2(path)


ZIP = raw_zip([(b"a/one", b"1"), (b"a/two", b"22")])
SECOND = ZIP.index(b"PK\x03\x04", 1)
LISTED = ZIP.index(b"PK\x01\x02")


def patched(at: int, new: bytes) -> bytes:
    return ZIP[:at] + new + ZIP[at + len(new) :]


def compressed() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/bomb", bytes(10**7))
    return made.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (ZIP + b"x", "end with its list"),
        (b"x" + ZIP, "not begin"),
        (ZIP[: SECOND] + b"PK" + ZIP[SECOND:], "not where it says"),
        (raw_zip([(b"a/one", b"1"), (b"a/one", b"2")]), "one name"),
        (raw_zip([(b"a/one", b"1"), (b"a/ONE", b"2")]), "one name"),
        (raw_zip([(b"/a/one", b"1")]), "no plain path"),
        (raw_zip([(b"a/../one", b"1")]), "no plain path"),
        (raw_zip([(b"a//one", b"1")]), "no plain path"),
        (raw_zip([(b"a\\one", b"1")]), "odd name"),
        (raw_zip([(b"a/\xc3\xa9", b"1")]), "odd name"),
        (raw_zip([(b"a/one", b"1"), (b"b/two", b"2")]), "one folder"),
        (patched(SECOND + 30, b"a/tow"), "differs from the list"),
        (patched(SECOND + 8, b"\x08"), "differs from the list"),
        (patched(LISTED + 10, b"\x08"), "compressed"),
        (patched(LISTED + 8, b"\x01"), "encrypted"),
        (patched(30 + 5, b"9"), "checksum"),
        (patched(LISTED + 42, struct.pack("<I", SECOND)), "gap or an overlap"),
        (patched(len(ZIP) - 22 + 8, b"\x01\x00\x01\x00"), "longer"),
        (compressed(), "compressed"),
    ],
)  # fmt: skip
def test_archives_that_two_readers_read_differently(content: bytes, says: str) -> None:
    with pytest.raises(OddZipError, match=says):
        members(content)


def test_an_archive_cut_or_changed_anywhere_is_refused_or_the_same() -> None:
    whole = members(ZIP)
    for length in range(len(ZIP)):
        with pytest.raises(OddZipError):
            members(ZIP[:length])
    for place in range(len(ZIP)):
        changed = ZIP[:place] + bytes([ZIP[place] ^ 1]) + ZIP[place + 1 :]
        try:
            found = members(changed)
        except OddZipError:
            continue
        assert list(found.values()) == list(whole.values())
