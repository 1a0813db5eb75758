"""One file for a graph or a network: safetensors, with the structure as JSON in its header."""

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from .brief import brief_repr
from .containers import ordered, read_content
from .errors import GraphError, InputError, Repair, UnsupportedError
from .fields import filled, fitted
from .graph import Graph, Node, Op, Register, require_few
from .interpret import shapes
from .nested import numbered
from .packing import pack, unpack
from .plain import Plain, read_plain
from .records import decode, encode

FORMAT = "spikemorph-3"
_FAMILY = FORMAT.rstrip("0123456789")


@dataclass(frozen=True)
class _StoredNode:
    """What the JSON of a node holds."""

    name: str
    inputs: tuple[str, ...]
    op: Any


@dataclass(frozen=True)
class _StoredGraph:
    """What the JSON of a graph holds."""

    nodes: tuple[_StoredNode, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    registers: tuple[Any, ...] = ()  # only where a graph has some: files without keep their hashes


class TensorStore:
    """Tensors by key; one tensor used twice is kept once."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._keys: dict[tuple[object, ...], str] = {}
        self._kept: list[Tensor] = []  # so that no other tensor takes the memory of one seen

    def __call__(self, tensor: Tensor) -> str:
        place = (tensor.data_ptr(), tensor.device, tensor.dtype, tensor.shape, tensor.stride())
        if place not in self._keys:
            key = f"t{len(self.tensors)}"
            self._keys[place] = key
            self._kept.append(tensor)
            self.tensors[key] = tensor.detach().cpu().contiguous()
        return self._keys[place]


def graph_to_plain(graph: Graph, store: TensorStore) -> Plain:
    """A graph as JSON; its tensors go to `store`.

    Raises
    ------
    InputError
        If it has more nodes than are read again.
    """
    require_few(len(graph.nodes), "the network")
    lasting = [encode(register, store) for register in graph.registers]
    return {
        "nodes": [
            {"name": n.name, "inputs": list(n.inputs), "op": encode(n.op, store)}
            for n in graph.nodes
        ],
        "inputs": list(graph.inputs),
        "outputs": list(graph.outputs),
        **({"registers": lasting} if lasting else {}),
    }


def graph_from_plain(plain: Plain, tensors: Mapping[str, Tensor], where: str) -> Graph:
    """Read what `graph_to_plain` wrote.

    Raises
    ------
    InputError
        If it is not a valid graph; `where` names the file.
    """
    if isinstance(plain, dict) and isinstance(plain.get("nodes"), list):
        require_few(len(plain["nodes"]), where)  # before any of them is looked at
    stored = filled(_StoredGraph, plain, where)
    if not stored.outputs:
        raise InputError(f"{where}: outputs: the graph names none; write it again")
    nodes = []
    for number, item in enumerate(stored.nodes):
        place = f"{where}, node {item.name!r}" if item.name else f"{where}, nodes[{number}]"
        op = fitted(decode(item.op, tensors, place), Op, place)
        nodes.append(Node(item.name, op, item.inputs))
    registers = []
    for number, item in enumerate(stored.registers):
        place = f"{where}, registers[{number}]"
        registers.append(fitted(decode(item, tensors, place), Register, place))
    try:
        graph = Graph(tuple(nodes), stored.inputs, stored.outputs, tuple(registers))
        shapes(graph)
    except (GraphError, UnsupportedError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{where}: not a stored graph ({reason}); write it again") from error
    return graph


def graph_hash(graph: Graph, *, names: bool = True) -> str:
    """SHA-256 of the graph's structure and tensors; without names, of what it computes only."""
    if not names:
        graph = numbered(graph)
    store = TensorStore()
    plain = graph_to_plain(graph, store)
    return content_hash(plain, store.tensors)


def content_hash(plain: Plain, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of JSON and tensors together."""
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for key in sorted(tensors):
        tensor = tensors[key].detach().cpu().contiguous()
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.reshape(-1).clone(memory_format=torch.contiguous_format)  # one stride, of 1
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write_file(path: Path, kind: str, plain: Plain, tensors: Mapping[str, Tensor]) -> None:
    """Write one safetensors file of the given kind, whole or not at all.

    Every tensor is stored in its smallest form (`packing`); the hash is of what they hold. The same
    content gives the same bytes.

    Raises
    ------
    InputError
        If the file cannot be written (no folder, no permission, no space); nothing is left behind.
    """
    stored, packing = pack(tensors)
    header = {
        "format": FORMAT,
        "kind": kind,
        "structure": json.dumps(plain, sort_keys=True),
        "sha256": content_hash(plain, tensors),
        "packing": json.dumps(packing, separators=(",", ":")),
    }
    write_bytes(path, ordered(save(stored, header)))


_WAYS = {  # what to do with a file of a kind, where another one was wanted
    "graph": ", a float model: convert it first (spikemorph convert)",
    "network": ", a converted one: evaluate, certify, energy and attack take it; or give the float model",
    "trained through time": ": evaluate and attack take it; or give the float model",
    "deployed": ", folded from one trained through time: evaluate takes it; or give the float model",
}


@dataclass(frozen=True)
class Stored:
    """What a file holds: its JSON as data and as `text`, its tensors, and how they are packed."""

    plain: Plain
    tensors: dict[str, Tensor]
    packing: Plain
    text: str
    header_bytes: int

    __repr__ = brief_repr


def read_file(path: Path, kind: str) -> tuple[Plain, dict[str, Tensor]]:
    """Read a file that `write_file` wrote, checking its kind and its hash.

    Raises
    ------
    InputError
        If the file is missing, damaged, of another kind, or was changed after it was written.
    """
    stored = read_stored(path, kind)
    return stored.plain, stored.tensors


def read_stored(path: Path, kind: str) -> Stored:
    """As `read_file`, with how its tensors are packed and where its bytes go."""
    content = read_content(path)
    header = _known(content.texts, path)
    if header.get("format") != FORMAT or header.get("kind") != kind:
        found = (
            header.get("kind", "") if header.get("format") == FORMAT else "a plain safetensors file"
        )
        raise InputError(
            f"{path}: this is not a spikemorph {kind} but {ascii(found)[1:-1][:60]}"
            f"{_WAYS.get(found, '')}"
        )
    if missing := {"structure", "packing", "sha256"} - header.keys():
        raise InputError(f"{path}: it has no {sorted(missing)}; write it again")
    plain, packing = (read_plain(header[key], path) for key in ("structure", "packing"))
    tensors = unpack(content.tensors(path), packing, str(path))
    if content_hash(plain, tensors) != header["sha256"]:
        raise InputError(f"{path}: its hash does not match its content; convert the model again")
    return Stored(plain, tensors, packing, header["structure"], content.header_bytes)


def file_kind(path: Path) -> str | None:
    """What a safetensors file holds: a kind that `write_file` was given, or None."""
    header = read_header(path)
    return header.get("kind") if header.get("format") == FORMAT else None


def save_graph(path: Path, graph: Graph) -> None:
    """Save a graph, float or integer, as one safetensors file."""
    store = TensorStore()
    write_file(path, "graph", graph_to_plain(graph, store), store.tensors)


def load_graph_file(path: Path) -> Graph:
    """Load a graph that `save_graph` wrote."""
    plain, tensors = read_file(path, "graph")
    return graph_from_plain(plain, tensors, str(path))


def made_folder(path: Path, repair: Repair) -> None:
    """Make a folder for results, with its parents.

    Raises
    ------
    InputError
        If the system refuses; `repair` says what to do.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be made: {error.strerror}", repair) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: to a temporary neighbour first, then renamed.

    Raises
    ------
    InputError
        If the system refuses; nothing is left behind.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder; choose the name of a file")
    try:
        path = path.resolve()  # a link stays a link
        other = path.exists() and not path.is_file()
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path}: cannot be written: {error}; choose another file") from error
    if other:
        raise InputError(f"{path}: is no plain file and is not replaced; choose another one")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):  # stopped by the user, perhaps
            raise
        reason = error.strerror or str(error)
        raise InputError(f"{path}: cannot be written: {reason}; choose another place") from error


def read_header(path: Path) -> dict[str, str]:
    """The text that a safetensors file holds beside its tensors.

    Raises
    ------
    InputError
        If it is no safetensors file, or an earlier version of spikemorph wrote it.
    """
    return _known(read_content(path).texts, path)


def _known(texts: dict[str, str], path: Path) -> dict[str, str]:
    found = texts.get("format", "")
    if found.startswith(_FAMILY) and found != FORMAT:
        raise InputError(
            f"{path}: its format is {ascii(found)[1:-1][:60]}, this version reads {FORMAT}; "
            "convert the model again"
        )
    return texts
