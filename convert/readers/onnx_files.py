"""Read an ONNX file once: its bytes, weights in files beside it, and its functions, within bounds."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import onnx
from onnx.inliner import inline_local_functions

from spikemorph.graph import InputError

from . import strict_zip
from .assembly import first_line
from .onnx_values import require_text

_FREE_NODES, _TIMES = (
    5_000,
    32,
)  # how far functions may unfold: nodes of any file, and times its own
_FREE_BYTES, _TIMES_BYTES = 2**22, 8
_DEEPEST = 64  # functions in functions
Counted = tuple[int, int]  # nodes, bytes
Key = tuple[str, str, str]  # of a function: domain, name, overload
_GRAPH: Key = ("", "", "")  # stands for a graph in a node


def load(path: Path) -> tuple[onnx.ModelProto, int]:
    """An ONNX model without functions and with all its weights inside, and how many bytes it took.

    Raises
    ------
    InputError
        If the file is missing, damaged or no model, its functions unfold to more than a file of its
        size may, or its weights lie outside its folder.
    """
    content = strict_zip.read_bytes(path)
    if strict_zip.is_zip(content):
        raise InputError(
            f"{path}: this is a zip archive, as torch writes: name an exported program .pt2; "
            "a pickled checkpoint is never loaded"
        )
    try:
        model = onnx.load_model_from_string(content)
        require_text(model)
    except Exception as error:  # the parser raises many kinds, all of them about the file
        raise _unreadable(path, error) from error
    size = len(content) + _bring_inside(path, model)
    if model.functions:
        _require_bounded(path, model, size)
        try:
            model = inline_local_functions(model)
        except Exception as error:  # as above
            raise _unreadable(path, error) from error
    if not model.graph.node or not model.graph.output:
        raise InputError(
            f"{path}: not an ONNX model, or one without nodes or outputs; export it again"
        )
    return model, size


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: not a readable ONNX file ({first_line(error)}); export it again")


def inner_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that a node holds."""
    for item in node.attribute:
        if item.HasField("g"):
            yield item.g
        yield from item.graphs


def _key(item: Any, name: str) -> Key:
    return item.domain, name, item.overload


def _require_bounded(path: Path, model: onnx.ModelProto, size: int) -> None:
    """Refuse functions that call each other in a circle, or unfold out of proportion."""
    functions = {_key(item, item.name): item for item in model.functions}
    if len(functions) != len(model.functions):
        raise InputError(f"{path}: two of its functions have one name; export the model again")
    done: dict[Key, Counted] = {}

    def unfolded(nodes: Iterable[onnx.NodeProto], trail: tuple[Key, ...]) -> Counted:
        count, total = 0, 0
        for node in nodes:
            count, total = count + 1, total + node.ByteSize()
            inner = [unfolded(graph.node, (*trail, _GRAPH)) for graph in inner_graphs(node)]
            key = _key(node, node.op_type)
            if key in functions:
                inner.append(called(key, trail))
            count += sum(item[0] for item in inner)
            total += sum(item[1] for item in inner)
        return count, total

    def called(key: Key, trail: tuple[Key, ...]) -> Counted:
        if key in trail or len(trail) > _DEEPEST:
            raise InputError(
                f"{path}: function {key[1]!r} calls itself, or functions lie more than {_DEEPEST} "
                "deep; export the model without functions"
            )
        if key not in done:
            done[key] = unfolded(functions[key].node, (*trail, key))
        return done[key]

    own = len(model.graph.node) + sum(len(item.node) for item in model.functions)
    for node in model.graph.node:
        count, total = unfolded([node], ())
        if count > _FREE_NODES + _TIMES * own or total > _FREE_BYTES + _TIMES_BYTES * size:
            raise InputError(
                f"{path}: node {node.name or node.op_type!r} unfolds to {count} nodes of {total} bytes,"
                f" from {own} in the file; export the model without functions"
            )


def _bring_inside(path: Path, model: onnx.ModelProto) -> int:
    """Read weights that lie in files beside the model; how many bytes there were.

    Only weights, in files of the model's own folder, within their sizes, and all together no more
    than these hold, so that a small file cannot ask for much.
    """
    taken: dict[str, dict[tuple[int, int], bytes]] = {}
    held: dict[str, int] = {}
    for item in model.graph.initializer:
        if item.data_location != onnx.TensorProto.EXTERNAL:
            continue
        told = {entry.key: entry.value for entry in item.external_data}
        file = _beside(path, item.name, told.get("location", ""))
        held[str(file)] = file.stat().st_size
        part = _part(path, item.name, told, held[str(file)])
        known = taken.setdefault(str(file), {})
        if part not in known:
            if sum(length for _, length in (*known, part)) > held[str(file)]:
                raise InputError(
                    f"{path}: weight {item.name!r} overlaps with others in {file.name!r}; "
                    "export the model again"
                )
            known[part] = _read_part(path, item.name, file, part)
        item.raw_data = known[part]
        item.data_location = onnx.TensorProto.DEFAULT
        del item.external_data[:]
    for nodes in (model.graph.node, *(item.node for item in model.functions)):
        _require_inside(path, nodes)
    return sum(held.values())


def _beside(path: Path, weight: str, location: str) -> Path:
    """A plain file in the model's folder, reached by no link."""
    parts = PurePosixPath(location).parts
    odd = not parts or location.startswith("/") or "\\" in location or "\0" in location
    if odd or any(part in ("..", "~") or ":" in part for part in parts):
        raise InputError(
            f"{path}: weight {weight!r} lies in {location!r}, which is no file of the model's folder"
        )
    folder = path.resolve().parent
    file = folder.joinpath(*parts)
    try:
        linked = file.resolve() != file
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path}: weight {weight!r}: {first_line(error)}") from error
    if linked:
        raise InputError(
            f"{path}: weight {weight!r} lies in {location!r}, which is a link; put the file there"
        )
    if not file.is_file():
        raise InputError(f"{path}: weight {weight!r} lies in {location!r}: no such file")
    return file


def _part(path: Path, weight: str, told: dict[str, str], size: int) -> tuple[int, int]:
    """Where a weight lies in its file: offset and length."""
    numbers = [told.get("offset", "0"), told.get("length", "")]
    if not all(text.isascii() and text.isdigit() and len(text) < 19 for text in numbers if text):
        raise InputError(f"{path}: weight {weight!r} lies at {numbers} of its file; export again")
    offset = int(numbers[0] or 0)
    length = int(numbers[1]) if numbers[1] else max(0, size - offset)
    if offset + length > size:
        raise InputError(
            f"{path}: weight {weight!r} lies at {offset} to {offset + length} of a file of {size} "
            "bytes; export the model again"
        )
    return offset, length


def _read_part(path: Path, weight: str, file: Path, part: tuple[int, int]) -> bytes:
    offset, length = part
    try:
        handle = os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(handle, "rb") as opened:
            opened.seek(offset)
            return opened.read(length)
    except (OSError, MemoryError) as error:
        raise InputError(f"{path}: weight {weight!r}: {first_line(error)}") from error


def _require_inside(path: Path, nodes: Iterable[onnx.NodeProto]) -> None:
    """Refuse tensors in other files wherever they are no weights of the model."""
    for node in nodes:
        for item in node.attribute:
            held = [item.t, *item.tensors]
            for sparse in (item.sparse_tensor, *item.sparse_tensors):
                held += [sparse.values, sparse.indices]
            _require_own(path, node.name or node.op_type, held)
        for graph in inner_graphs(node):
            _require_own(path, node.name or node.op_type, graph.initializer)
            _require_inside(path, graph.node)


def _require_own(path: Path, name: str, held: Iterable[onnx.TensorProto]) -> None:
    if any(item.data_location == onnx.TensorProto.EXTERNAL or item.external_data for item in held):
        raise InputError(
            f"{path}: node {name!r} holds a tensor in another file; store it as a weight"
        )
