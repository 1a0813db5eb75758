"""Read an ONNX file into a float graph, folding everything that does not depend on the sample."""

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor

from spikemorph.graph import Graph, Input, InputError
from spikemorph.graph.calls import Call, Edge, Refusal
from spikemorph.graph.errors import Repair, Setting
from spikemorph.graph.graph import require_few
from spikemorph.graph.saving import graph_hash
from spikemorph.graph.tables import reads_onnx

from . import onnx_values
from .assembly import Assembly, Unknown
from .budget import Budget, TooLargeError
from .onnx_files import load
from .onnx_scan import count_nodes, plan_of
from .scans import read_body, wired

OLDEST = 7  # operator set; older files spell broadcasting in another way
_RESHAPING = {"Flatten", "Reshape", "Squeeze", "Unsqueeze"}
_MOVING = _RESHAPING | {"Identity", "Transpose"}
_STANDARD = ("", "ai.onnx")
_OUTSIDE = "it reads in its body what is computed outside: scan that, too"
_LARGEST_BATCH = 2**20
_OPEN_BATCHES = (3, 5)  # stand for an open batch size; two, to see whether it matters


def read_onnx(path: Path, input_shape: tuple[int, ...] | None = None) -> Graph:
    """Read an ONNX file.

    Parameters
    ----------
    path : Path
        The file.
    input_shape : tuple of int, optional
        (batch, *sample shape); needed where the file leaves a size open.

    Returns
    -------
    Graph
        A float graph; node names are the file's.

    Raises
    ------
    InputError
        If the file is missing or damaged, its operator set is older than 7, its input sizes are
        open and not given, or a weight is not finite.
    UnsupportedError
        Naming every node that cannot be taken.
    """
    model, size = load(path)
    first = _Reading(path, model, size, input_shape, _OPEN_BATCHES[0])
    graph = first.graph()
    if first.reads_batch:
        second = _Reading(path, model, size, input_shape, _OPEN_BATCHES[1]).graph()
        if graph_hash(graph) != graph_hash(second):
            raise InputError(
                f"{path}: what it computes for one sample depends on the batch size; "
                "export it with a fixed batch size"
            )
    return graph


class _Reading:
    """One reading of one file: the values known so far, by the file's names, and which are `whole`
    numbers: with these ONNX divides and wraps around as reals do not."""

    def __init__(
        self,
        path: Path,
        model: onnx.ModelProto,
        size: int,
        given: tuple[int, ...] | None,
        open_batch: int,
    ) -> None:
        require_few(count_nodes(model.graph), str(path))
        self.path, self.model, self.proto = path, model, model.graph
        self.outer: _Reading | None = None
        self.version = self._operator_set()
        self.stored = self._stored()
        self.values: dict[str, Any] = {}
        self.budget = Budget(size)
        self.assembly = Assembly(str(path))
        self.reads_batch = False
        entry, dims = self._entry(given)
        self.open = dims[0] is None
        self.batch = dims[0] or open_batch
        self.kind = torch.float64 if onnx_values.is_double(model, entry) else torch.float32
        self.whole = set() if onnx_values.is_floating(model, entry) else {entry}
        shape = tuple(int(d) for d in dims[1:] if d)
        self.values[entry] = self.assembly.enter(entry, Input(shape))

    def graph(self) -> Graph:
        return self.assembly.graph(self._walked())

    def _walked(self) -> list[Any]:
        """Take every node; what is given out."""
        needed = self._needed()
        for index, node in enumerate(self.proto.node):
            known = [self.values.get(name) for name in node.input]
            if index in needed or any(isinstance(item, Edge) for item in known):
                self._take(node)
            else:  # a constant that comes to nothing costs nothing
                self.values.update((name, Unknown()) for name in node.output if name)
        return [self._value(item.name) for item in self.proto.output]

    def _stored(self) -> dict[str, onnx.TensorProto]:
        """The weights by their names; they are read when something reads them."""
        stored = {item.name: item for item in self.proto.initializer}
        if len(stored) != len(self.proto.initializer):
            raise InputError(f"{self.path}: two of its weights have one name; export it again")
        return stored

    def _needed(self) -> set[int]:
        """The places of the nodes that an output depends on."""
        waiting = [item.name for item in self.proto.output]
        makers: dict[str, list[int]] = {}
        for index, node in enumerate(self.proto.node):
            for name in node.output:
                makers.setdefault(name, []).append(index)
        found: set[int] = set()
        while waiting:
            for index in makers.pop(waiting.pop(), ()):
                if index not in found:
                    found.add(index)
                    waiting.extend(_reads(self.proto.node[index]))
        return found

    def _operator_set(self) -> int:
        sets = {item.domain: item.version for item in self.model.opset_import}
        version = int(sets.get("", sets.get("ai.onnx", 0)))
        if version < OLDEST:
            raise InputError(
                f"{self.path}: operator set {version}; {OLDEST} or newer is needed: "
                "run onnx.version_converter.convert_version(model, 13)"
            )
        if version > onnx.defs.onnx_opset_version():
            raise InputError(
                f"{self.path}: operator set {version} is newer than the installed onnx knows "
                f"({onnx.defs.onnx_opset_version()}): upgrade onnx"
            )
        return version

    def _entry(self, given: tuple[int, ...] | None) -> tuple[str, list[int | None]]:
        """The input's name and sizes, batch first; None where the batch size is open."""
        found = [item for item in self.model.graph.input if item.name not in self.stored]
        if len(found) != 1:
            names = [item.name for item in found]
            raise InputError(
                f"{self.path}: the model has inputs {names}, one is expected; "
                "store the others in the file as initialisers"
            )
        (entry,) = found
        sizes = [d.dim_value for d in entry.type.tensor_type.shape.dim]
        if min(sizes, default=0) < 0 or max(sizes[:1], default=0) > _LARGEST_BATCH:
            raise InputError(
                f"{self.path}: input {entry.name!r} has sizes {sizes}: sizes are above zero, and a "
                f"batch has {_LARGEST_BATCH} samples at most; export it with an open batch size"
            )
        dims = [n or None for n in sizes]
        if given is not None:
            dims = self._settled(entry.name, dims, given)
        if len(dims) < 2 or None in dims[1:]:
            raise InputError(
                f"{self.path}: input {entry.name!r} has sizes {dims} (None: open)",
                Repair("input_shape", words="give {}: batch and one sample's sizes"),
            )
        return entry.name, dims

    def _settled(
        self, name: str, dims: list[int | None], given: tuple[int, ...]
    ) -> list[int | None]:
        """The file's sizes with the user's in place of open ones; the batch may differ."""
        fits = not dims or (
            len(dims) == len(given)
            and all(a in (None, b) for a, b in zip(dims[1:], given[1:], strict=True))
        )
        if not fits or any(n < 1 for n in given):
            raise InputError(
                f"{self.path}: input {name!r} has sizes {dims} (None: open); give positive sizes that "
                "agree with them",
                where=Setting("input_shape", given),
            )
        return [a or b for a, b in zip(dims, given, strict=True)] if dims else list(given)

    def _value(self, name: str) -> Any:
        if not name:
            return None
        if name not in self.values and name in self.stored:
            self.values[name] = onnx_values.weight(self.path, self.stored[name])
        if self.outer is not None and name not in self.values:
            found = self.outer._value(name)
            return Unknown(_OUTSIDE) if isinstance(found, Edge) else found
        missing = Unknown(f"it reads {name!r}, which nothing before it makes")
        return self.values.get(name, missing)

    def _take(self, node: onnx.NodeProto) -> None:
        name = node.name or "_".join([node.op_type, *node.output[:1]])
        inputs = [self._value(item) for item in node.input]
        try:
            made = self._made(name, node, inputs)
        except TooLargeError as error:
            raise self.assembly.too_large(name, node.op_type, error) from error
        except Refusal as refusal:
            made = [self.assembly.refuse(name, node.op_type, refusal.reason, refusal.repair)]
        lost = any(isinstance(item, Unknown) for item in made)  # already noted, so without a reason
        for index, output in enumerate(node.output):
            if output in self.values or output in self.stored:
                reason = f"it makes {output!r}, which is made already"
                self.assembly.refuse(name, node.op_type, reason, "give its output another name")
            spare = None if lost else f"it reads output {index} of {name!r}, which is not supported"
            if output:
                self.values[output] = made[index] if index < len(made) else Unknown(spare)

    def _made(self, name: str, node: onnx.NodeProto, inputs: list[Any]) -> list[Any]:
        """The node's outputs, as many as are computed."""
        if node.domain not in _STANDARD:
            raise Refusal(f"its domain is {node.domain!r}", "use standard ONNX operators")
        sized = inputs[0] if inputs else None
        if node.op_type in ("Shape", "Size") and isinstance(sized, Edge):
            self.reads_batch |= self.open
            before, behind = sized.shape[: sized.batch], sized.shape[sized.batch :]
            return [onnx_values.sizes(node, (*before, self.batch, *behind))]
        if not any(isinstance(item, Edge | Unknown) for item in inputs):
            return list(onnx_values.folded(node, inputs, self.version, self.budget))
        if node.op_type == "CastLike" and isinstance(sized, Tensor):
            return [sized.to(self.kind)]  # all that depends on the sample has the input's type
        if self.whole.intersection(node.input) and node.op_type != "Cast":
            if node.op_type not in _MOVING:
                raise Refusal("it computes with whole numbers", "cast the input to float first")
            self.whole.update(node.output)
        if node.op_type == "Scan":
            return list(self._scan(name, node, inputs))
        options = {item.name: onnx_values.attribute(item) for item in node.attribute}
        out: tuple[int, ...] = ()
        known = not any(isinstance(item, Unknown) for item in inputs)
        if known and node.op_type in _RESHAPING and isinstance(sized, Edge):
            out = onnx_values.reshaped(node, inputs, self.version, self.batch)
        places = tuple(axis for axis, size in enumerate(out) if size == self.batch)
        call = Call(
            name, node.op_type, tuple(inputs), options, self.version, out, places, len(node.output)
        )
        return list(self.assembly.add(call, reads_onnx.get(node.op_type)))

    def _scan(self, name: str, node: onnx.NodeProto, inputs: list[Any]) -> list[Any]:
        """What a Scan makes: states after the last element, then what it gives out at each."""
        read, options, count = inputs, {}, len(node.output)
        if not any(isinstance(item, Unknown) for item in inputs):
            if self.outer is not None:
                raise Refusal("it is in the body of another", "export without nested scans")
            proto, plan = plan_of(node, inputs, self.version, self.batch)
            inner = self._inside(proto)

            def walk(entries: Sequence[Edge]) -> Sequence[Any]:
                names = [item.name for item in proto.input]
                inner.values.update(zip(names, entries, strict=True))
                return inner._walked()

            body = read_body(name, self.assembly, inner.assembly, plan, walk)
            self.reads_batch |= inner.reads_batch
            if body is None:
                return [Unknown()] * count
            read, options = inputs[-len(plan.elements) :], {"body": body, "budget": self.budget}
        call = Call(name, "Scan", tuple(read), options, self.version, outputs=count)
        return list(self.assembly.add(call, wired))

    def _inside(self, proto: onnx.GraphProto) -> "_Reading":
        """A reading of a body, which sees constants of the graph around it."""
        inner = copy.copy(self)
        inner.proto, inner.outer, inner.whole = proto, self, set()
        inner.stored, inner.values = inner._stored(), {}
        inner.assembly, inner.reads_batch = Assembly(str(self.path)), False
        return inner


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """The names that a node reads, those in its bodies too."""
    yield from (name for name in node.input if name)
    for item in node.attribute:
        if item.type == onnx.AttributeProto.GRAPH:
            yield from (output.name for output in item.g.output)
            for inner in item.g.node:
                yield from _reads(inner)
