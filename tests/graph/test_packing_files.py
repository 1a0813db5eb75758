"""Files of packed tensors: what they hold, where their bytes go; no change or forgery passes."""

import copy
import json
import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import parts, put
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from spikemorph.convert import to_spiking
from spikemorph.graph import Graph, InputError
from spikemorph.graph.grid import Grid
from spikemorph.graph.packing import Packing, pack, pack_tensor, packing_of, unpack, unpack_tensor
from spikemorph.graph.packing_listing import file_layouts, file_size, graph_layouts
from spikemorph.graph.saving import (
    file_kind,
    graph_hash,
    load_graph_file,
    read_file,
    save_graph,
    write_file,
)
from spikemorph.layers.linear import Linear
from spikemorph.layers.masks import with_masks
from spikemorph.layers.readout import Readout
from spikemorph.spiking import load_network, save_network

READ = Readout(torch.ones(1, dtype=torch.int64), Fraction(1))


@pytest.fixture
def sparse(chain: Callable[..., Graph], even_ladder: Callable[..., Any]) -> Graph:
    """An integer graph of two layers: one pruned, with its mask, one dense."""
    draw = torch.Generator().manual_seed(3)
    first = torch.randint(-15, 16, (12, 40), generator=draw).to(torch.int8)
    second = torch.randint(-15, 16, (30, 12), generator=draw).to(torch.int8)
    layers = (Linear(first, torch.arange(12)), even_ladder([9] * 12, 1, 4, 0, 7))
    graph = chain((40,), *layers, Linear(second, None), READ, grid=Grid(Fraction(1), 0, 7))
    return with_masks(graph, {"n0": torch.rand(12, 40, generator=draw) < 0.1})


@pytest.fixture
def saved(tmp_path: Path, sparse: Graph) -> Path:
    path = tmp_path / "net.safetensors"
    save_graph(path, sparse)
    return path


def test_a_sparse_network_comes_back_and_is_smaller(
    saved: Path, sparse: Graph, tmp_path: Path
) -> None:
    assert graph_hash(load_graph_file(saved)) == graph_hash(sparse)
    network = to_spiking(sparse)
    save_network(tmp_path / "spiking", network, {"name": "t0", "op": {"tensor": "t0"}})
    back, _ = load_network(tmp_path / "spiking")
    assert graph_hash(back.graph) == graph_hash(sparse) and back.neurons == network.neurons
    found = file_layouts(tmp_path / "spiking", "network")
    assert found == graph_layouts(sparse) == file_layouts(saved, "graph")
    assert found["n0.weight"].value_bits == 5 and found["n0.weight"].format == "delta"
    assert found["n0.mask"].bits < 60 and found["n2.weight"].bits == 30 * 12 * 5
    assert {name.split(".")[0] for name in found} == {"n0", "n1", "n2", "n3"}


def test_the_bytes_of_a_file_are_accounted_for(saved: Path) -> None:
    size = file_size(saved, "graph")
    assert size.total_bytes == saved.stat().st_size == len(saved.read_bytes())
    assert size.total_bytes == size.tensor_bytes + size.structure_bytes + size.overhead_bytes
    assert size.tensor_bytes == len(parts(saved)[1])
    tensors = len(file_layouts(saved, "graph"))
    assert 0 <= 8 * size.tensor_bytes - size.tensor_bits <= 21 * tensors
    assert size.structure_bytes > len(parts(saved)[0]["__metadata__"]["structure"])


def test_a_changed_byte_anywhere_is_refused_or_changes_nothing(saved: Path, sparse: Graph) -> None:
    whole, wanted = saved.read_bytes(), graph_hash(sparse)
    refused = 0
    for place in range(len(whole)):
        for flip in (1, 0x80) if place % 7 else (0x10, 0xFF):
            saved.write_bytes(whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :])
            try:
                assert graph_hash(load_graph_file(saved)) == wanted
            except InputError as error:
                assert str(saved) in str(error)
                refused += 1
    assert refused > 1.8 * len(whole)


def test_an_earlier_format_is_refused(saved: Path) -> None:
    header, rest = parts(saved)
    header["__metadata__"]["format"] = "spikemorph-1"
    put(saved, header, rest)
    for read in (load_graph_file, file_kind):
        with pytest.raises(InputError, match=r"net.safetensors: its format is spikemorph-1"):
            read(saved)


# Forgeries: entries of the packing header that fit no bytes, with the right hash or without.

Forgery = Callable[[dict[str, Any]], Any]
FORGERIES: dict[str, tuple[str, Forgery]] = {
    "another format": ("w", lambda e: e.update(format="bitmask")),
    "no format": ("w", lambda e: e.update(format="zip")),
    "a width less": ("w", lambda e: e.update(value_bits=4)),
    "a width that fits the bits": ("w", lambda e: e.update(
        value_bits=4, bits=e["bits"] - e["stored"])),
    "a bit that nothing takes": ("w", lambda e: e.update(bits=e["bits"] + 1)),
    "a wider value than its type": ("d", lambda e: e.update(value_bits=9, bits=9 * e["stored"])),
    "no sign": ("w", lambda e: e.update(signed=False)),
    "a sign without a bit": ("zero", lambda e: e.update(signed=True)),
    "another type": ("w", lambda e: e.update(dtype="int16")),
    "a type that is none": ("w", lambda e: e.update(dtype="object")),
    "fewer values": ("w", lambda e: e.update(stored=e["stored"] - 1)),
    "another shape": ("w", lambda e: e.update(shape=[90, 20])),
    "no shape": ("w", lambda e: e.update(shape=None)),
    "a negative size": ("w", lambda e: e.update(shape=[-30, -60])),
    "an empty shape": ("zero", lambda e: e.update(shape=[0, 2**40])),
    "a fraction of a size": ("w", lambda e: e.update(shape=[30.0, 60])),
    "a true size": ("zero", lambda e: e.update(shape=[True, 4000])),
    "too many axes": ("zero", lambda e: e.update(shape=[1] * 100)),
    "a huge tensor of zeros": ("zero", lambda e: e.update(shape=[2**40])),
    "a huge matrix of zeros": ("zero", lambda e: e.update(format="csr", shape=[2**30, 1])),
    "a huge dense tensor": ("zero", lambda e: e.update(
        format="dense", value_bits=0, shape=[2**40], stored=2**40)),
    "a product that is too large": ("zero", lambda e: e.update(shape=[2**40, 2**40])),
    "a number that is too large": ("zero", lambda e: e.update(shape=[2**80])),
    "something more": ("w", lambda e: e.update(more=1)),
    "nothing": ("w", lambda e: e.clear()),
    "relative to itself": ("m", lambda e: e.update(relative_to="m")),
    "relative to nothing": ("m", lambda e: e.update(relative_to="gone")),
    "relative to another shape": ("m", lambda e: e.update(relative_to="d")),
    "relative without being bool": ("w", lambda e: e.update(relative_to="d")),
    "relative to a number": ("m", lambda e: e.update(relative_to=1)),
    "no longer relative": ("m", lambda e: e.pop("relative_to")),
}  # fmt: skip


def content() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    kept = torch.rand(60, 90, generator=draw) < 0.1
    weight = torch.where(kept, torch.randint(-15, 16, kept.shape, generator=draw), 0)
    dense = torch.randint(0, 8, (4000,), generator=draw).to(torch.int8)
    named = {"w": weight.to(torch.int8), "m": kept, "d": dense}
    return named | {"zero": torch.zeros(4000, dtype=torch.int8)}


@pytest.mark.parametrize("what", FORGERIES)
def test_a_forged_header_is_refused_before_it_costs_memory(what: str, tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    write_file(path, "graph", {}, content())
    header, rest = parts(path)
    meta = header["__metadata__"]
    entries = json.loads(meta["packing"])
    key, forge = FORGERIES[what]
    forge(entries[key])
    meta["packing"] = json.dumps(entries)
    put(path, header, rest)
    tracemalloc.start()
    with pytest.raises(InputError, match="hash does not match") as caught:
        read_file(path, "graph")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert peak < 4_000_000


@pytest.mark.parametrize("packing", ["[]", "{", "3", '{"gone": {}}', '{"w": 7}', "[" * 100_000])
def test_a_packing_that_is_no_table_is_refused(packing: str, tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    write_file(path, "graph", {}, content())
    header, rest = parts(path)
    header["__metadata__"]["packing"] = packing
    put(path, header, rest)
    with pytest.raises(InputError, match=r"f\.safetensors"):
        read_file(path, "graph")


STORED, ENTRIES = pack(content())
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 70), st.sampled_from([2**31, 2**47, 2**63, 2**70]),
    st.floats(), st.lists(st.integers(0, 2**20), max_size=3),
    st.sampled_from(["dense", "bitmask", "csr", "delta", "bool", "int64", "float16", "w", "d"]),
)  # fmt: skip


@given(
    st.sampled_from(sorted(ENTRIES)),
    st.dictionaries(st.sampled_from([*ENTRIES["m"]]), ODD, max_size=4),
)
def test_any_header_is_read_or_refused(key: str, changes: dict[str, Any]) -> None:
    """Never another exception; what is read has the shape and type that the header says."""
    entries = copy.deepcopy(ENTRIES)
    entries[key].update(changes)
    try:
        tensors = unpack(STORED, entries, "f")
    except InputError:
        return
    assert list(tensors[key].shape) == entries[key]["shape"]
    assert str(tensors[key].dtype) == f"torch.{entries[key]['dtype']}"


@given(st.sampled_from(sorted(ENTRIES)), st.sampled_from(["csr", "bitmask", "delta"]), st.data())
def test_any_bytes_are_read_or_refused(key: str, format: str, data: st.DataObject) -> None:
    """Row starts that fall, columns and gaps that lead outside, masks of another count."""
    tensor = content()[key][:40]
    packing = packing_of(tensor, format)
    stored = pack_tensor(tensor, packing)
    places = st.lists(st.integers(0, max(0, len(stored) - 1)), min_size=1, max_size=9)
    if len(stored):
        for place in data.draw(places):
            stored[place] = data.draw(st.integers(0, 255))
    try:
        back = unpack_tensor(packing, stored)
    except ValueError:
        return
    assert back.shape == tensor.shape and back.dtype == tensor.dtype


def described(format: str, shape: list[int], width: int, stored: int, index: int) -> Packing:
    bits = stored * width + index
    entry = {"format": format, "dtype": "bool", "shape": shape, "value_bits": width}
    return Packing.from_plain({**entry, "signed": False, "stored": stored, "bits": bits})


def test_what_no_stored_bytes_can_bound_is_refused() -> None:
    """A column of ones costs no bits each, so it could be of any length; gaps are 32 bits at most."""
    described("csr", [4, 1], 0, 4, 5 * 3)
    described("delta", [2**40], 1, 2, 2 * 32)
    for odd in (("csr", [4, 1], 0, 2**46, 5 * 47), ("delta", [2**40], 1, 2, 2 * 33)):
        with pytest.raises(ValueError, match="contradicts itself"):
            described(*odd)


@pytest.mark.parametrize(
    ("packing", "stored", "reason"),
    [
        (described("bitmask", [8], 0, 1, 8), [0b11], "marks 2 values, 1 are stored"),
        (described("bitmask", [8], 0, 2, 8), [0b1], "marks 1 values, 2 are stored"),
        (described("delta", [8], 1, 2, 6), [0b100_011, 0b11], "past its end"),  # 3 + 1 + 4 + 1
        (described("csr", [2, 4], 0, 2, 10), [0b10_10_01, 0], "row starts"),  # 1, 2, 2
        (described("csr", [2, 4], 0, 2, 10), [0b01_01_00, 0], "row starts"),  # 0, 1, 1
        (described("csr", [2, 4], 0, 2, 10), [0b10_11_00, 0], "row starts"),  # 0, 3, 2
        (described("csr", [1, 3], 0, 1, 4), [0b10, 0b11], "column"),
        (described("delta", [8], 1, 2, 6), [0], "2 bytes are announced"),
    ],
)
def test_bytes_that_are_no_such_encoding_are_told(
    packing: Packing, stored: list[int], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        unpack_tensor(packing, torch.tensor(stored, dtype=torch.uint8))


def test_a_file_of_nearly_nothing_stays_within_its_expansion(tmp_path: Path) -> None:
    """Ten million zeros are stored, and read, at a thousandth of their size."""
    path, zeros = tmp_path / "f.safetensors", torch.zeros(10**7)
    write_file(path, "graph", {}, {"t": zeros})
    assert 4 * 10**7 / 1024 < path.stat().st_size < 4 * 10**7 / 1000
    assert torch.equal(read_file(path, "graph")[1]["t"], zeros)
