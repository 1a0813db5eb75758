"""What a stored network takes: every tensor's layout by name, and where a file's bytes go."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from .graph import Graph
from .packing import Packing, layouts, plain_layout
from .packing_codecs import Layout
from .plain import Plain
from .saving import Stored, TensorStore, graph_to_plain, read_stored


@dataclass(frozen=True)
class FileSize:
    """Where the bytes of a file go.

    Parameters
    ----------
    total_bytes : int
        The file's size: the three others together.
    tensor_bytes : int
        Packed or plain tensors.
    structure_bytes : int
        The header's JSON of nodes and ops, with its notes (certificate, history).
    overhead_bytes : int
        The rest of the header: names, places and formats of tensors, hashes.
    tensor_bits : int
        Bits of the layouts, without what fills whole bytes and bounds the expansion.
    """

    total_bytes: int
    tensor_bytes: int
    structure_bytes: int
    overhead_bytes: int
    tensor_bits: int

    def to_dict(self) -> dict[str, int]:
        """Plain data, with the field names as keys."""
        return dict(vars(self))


def stored_layouts(plain: Plain, tensors: Mapping[str, Tensor]) -> dict[str, Layout]:
    """How `write_file` stores what it is given, by node and field: ``"conv1.weight"``.

    A tensor that several fields share is stored once and stands under the first.
    """
    known = layouts(tensors)
    return {name: known[key] for name, key in tensor_names(plain).items() if key in known}


def graph_layouts(graph: Graph) -> dict[str, Layout]:
    """How `save_graph` stores a graph's tensors, by node and field."""
    store = TensorStore()
    return stored_layouts(graph_to_plain(graph, store), store.tensors)


def file_layouts(path: Path, kind: str) -> dict[str, Layout]:
    """How the tensors of a file of a kind are stored, by node and field; the file is checked.

    Raises
    ------
    InputError
        As `read_file`.
    """
    return _layouts(read_stored(path, kind))


def _layouts(stored: Stored) -> dict[str, Layout]:
    return {
        name: Packing.from_plain(stored.packing[key]).layout
        if key in stored.packing
        else plain_layout(stored.tensors[key])
        for name, key in tensor_names(stored.plain).items()
        if key in stored.tensors
    }


def file_size(path: Path, kind: str) -> FileSize:
    """Where the bytes of a file of a kind go; raises as `file_layouts`."""
    stored = read_stored(path, kind)
    bits = sum(layout.bits for layout in _layouts(stored).values())
    header, total = stored.header_bytes, path.stat().st_size
    structure = len(json.dumps(stored.text).encode())
    return FileSize(total, total - header, structure, header - structure, bits)


def tensor_names(plain: Plain) -> dict[str, str]:
    """The keys of the tensors in stored JSON, by the node and field that name each first."""
    names: dict[str, str] = {}
    for name, key in _found(plain, ()):
        names.setdefault(key, name)
    return {name: key for key, name in names.items()}


def _found(plain: Any, trail: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    match plain:
        case {"tensor": str(key)}:
            yield ".".join(trail), key
        case {"name": str(name), "op": op}:
            yield from _found(op, (name,))
        case {"record": _, "fields": dict(content)}:
            for field, item in content.items():
                yield from _found(item, (*trail, field))
        case dict():
            for item in plain.values():
                yield from _found(item, trail)
        case list():
            for number, item in enumerate(plain):
                yield from _found(item, (*trail, str(number)) if trail else ())
