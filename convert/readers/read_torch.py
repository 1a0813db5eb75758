"""Read a torch module, by the program that torch.export makes of it, into a float graph."""

import copy
import io
import logging
import operator
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from spikemorph.graph import Graph, Input, InputError
from spikemorph.graph.calls import Call, Edge, Refusal
from spikemorph.graph.graph import require_few
from spikemorph.graph.saving import graph_hash
from spikemorph.graph.tables import reads_torch

from .assembly import MISFITS, Assembly, Unknown, first_line
from .budget import FOLDABLE, Budget, TooLargeError, bounded_constants
from .scans import Body, Plan, element_of, read_body, starts_of, wired
from .traced import changes_input, harmless, needed, operator_of, plain

_SCAN: Any = torch.ops.higher_order.scan
_STAND_INS = (3, 5)  # for an open batch size; two, to see whether it matters


def read_torch(model: nn.Module, example: Tensor) -> Graph:
    """Read a module by tracing it with torch.export.

    Parameters
    ----------
    model : nn.Module
        Read in evaluation mode, from a copy: the module itself is left as it is.
    example : Tensor
        (sample, *shape): fixes the input's shape; one sample is enough.

    Returns
    -------
    Graph
        A float graph; node names are the modules' qualified names, and a module called twice is
        two nodes that share tensors.

    Raises
    ------
    InputError
        If the module cannot be traced, or a weight is not finite.
    UnsupportedError
        Naming every call that cannot be taken.
    """
    where = type(model).__name__
    if example.dim() < 2 or len(example) == 0:
        raise InputError(f"{where}: the example has shape {tuple(example.shape)}; give one sample")
    pair = torch.cat([example[:1], example[:1]])  # a batch of one would be taken for a constant
    try:
        # The batch stays open, so that a network that computes with it is seen.
        frozen = copy.deepcopy(model).eval()
        with quietly():
            program = torch.export.export(frozen, (pair,), dynamic_shapes=({0: Dim.AUTO},))
    except Exception as error:  # the exporter raises many kinds, all of them about the model
        raise InputError(
            f"{where}: torch.export cannot trace it: {first_line(error)}; check the input's shape, "
            "and take branches on data out of forward"
        ) from error
    return read_program(program, where)


@contextmanager
def quietly() -> Iterator[None]:
    """Without what torch logs and warns of while it traces: what matters is in the error."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def read_program(program: ExportedProgram, where: str) -> Graph:
    """Read an exported program; see `read_torch`."""
    require_few(len(program.graph.nodes), where)
    if not all(harmless(node) for node in program.graph.nodes):
        try:
            with quietly():
                program = program.run_decompositions({})  # changes in place become values
        except Exception as error:  # of many kinds, all of them about the program
            reason = f"its changes in place cannot be taken out: {first_line(error)}"
            raise InputError(f"{where}: {reason}; write it without them") from error
    first = _Reading(program, where, _STAND_INS[0])
    graph = first.graph()
    if first.reads_batch:
        second = _Reading(program, where, _STAND_INS[1]).graph()
        if graph_hash(graph) != graph_hash(second):
            raise InputError(
                f"{where}: what it computes for one sample depends on the batch size; take that out "
                "of forward"
            )
    return graph


class _Reading:
    """One reading of one program: the values known so far, by the program's names."""

    def __init__(self, program: ExportedProgram, where: str, stand_in: int) -> None:
        self.program, self.where, self.stand_in = program, where, stand_in
        self.module: fx.GraphModule = program.graph_module
        self.reads_batch = False
        self.assembly = Assembly(where)
        self.values: dict[str, Any] = {}
        self.batch: Any = None
        tensors = {**program.state_dict, **program.constants}.values()
        self.budget = Budget(sum(t.nbytes for t in tensors if isinstance(t, Tensor)))
        self.needed = needed(program.graph)

    def graph(self) -> Graph:
        specs = {spec.arg.name: spec for spec in self.program.graph_signature.input_specs}
        for node in self.module.graph.find_nodes(op="placeholder"):
            self.values[node.name] = self._placeholder(node, specs[node.name])
        return self.assembly.graph(self._outputs(self._walked()))

    def _walked(self) -> fx.Node:
        """Take every call; the node that says what is returned."""
        for node in self.module.graph.nodes:
            if node.op == "call_function":
                self.values[node.name] = self._take(node)
            elif node.op == "output":
                return node
            elif node.op != "placeholder":
                self.values[node.name] = Unknown(f"it reads {node.name!r}, a {node.op} node")
        raise InputError(f"{self.where}: the program has no output")

    def _scan(self, node: fx.Node) -> list[Any]:
        """What torch's scan makes: states after the last element, then what it gives out at each."""
        name, op, count = self._name(node), "scan", len(node.meta["val"])
        starts, xs, more = (self._value(item) for item in node.args[1:])
        read = (*starts, *xs, *more)
        options = {}
        if not any(isinstance(item, Unknown) for item in read):
            try:
                body = self._body(node, starts, xs, more)
            except Refusal as refusal:
                return [self.assembly.refuse(name, op, refusal.reason, refusal.repair)] * count
            if body is None:
                return [Unknown()] * count
            read, options = tuple(xs), {"body": body, "budget": self.budget}
        return self.assembly.add(Call(name, op, read, options, outputs=count), wired)

    def _body(self, node: fx.Node, starts: Any, xs: Any, more: Any) -> Body | None:
        """The body of a scan, read by itself; None if it has nodes that cannot be taken."""
        if not all(isinstance(x, Edge) for x in xs) or not xs:
            raise Refusal("what it scans is not computed from the input", "scan a computed value")
        if not all(isinstance(value, Tensor) for value in more):
            raise Refusal("its body reads what is computed outside", "scan that, too")
        inner = _Reading(self.program, self.where, self.stand_in)
        assert isinstance(node.args[0], fx.Node)
        inner.module = cast(fx.GraphModule, self.module.get_submodule(str(node.args[0].target)))
        inner.batch, inner.budget = self.batch, self.budget
        inner.needed = needed(inner.module.graph)
        require_few(len(inner.module.graph.nodes), self.where)
        plan = Plan(starts_of(starts), tuple(element_of(x) for x in xs))

        def walk(entries: Sequence[Edge]) -> Sequence[Any]:
            places = inner.module.graph.find_nodes(op="placeholder")
            for place, value in zip(places, (*entries, *more), strict=True):
                inner.values[place.name] = value
            return cast(Sequence[Any], inner._value(inner._walked().args[0]))

        body = read_body(self._name(node), self.assembly, inner.assembly, plan, walk)
        self.reads_batch |= inner.reads_batch
        return body

    def _placeholder(self, node: fx.Node, spec: Any) -> Any:
        if spec.kind is InputKind.USER_INPUT:
            meaning = node.meta.get("val")
            if self.batch is not None or not isinstance(meaning, Tensor) or meaning.dim() < 2:
                raise InputError(
                    f"{self.where}: one input of (sample, *shape) is expected, "
                    f"{node.name!r} is another; wrap the model in one that takes a tensor"
                )
            self.batch, *shape = meaning.shape
            if not plain(shape):
                raise InputError(f"{self.where}: only the batch size may be open, not {shape}")
            return self.assembly.enter(node.name, Input(tuple(shape)))
        value = {**self.program.state_dict, **self.program.constants}.get(spec.target)
        if not isinstance(value, Tensor):
            return Unknown(f"it reads {node.name!r}, which is not a tensor")
        return value.detach()

    def _outputs(self, node: fx.Node) -> list[Any]:
        """The values that the model returns; tensors that it changes are refused."""
        specs = self.program.graph_signature.output_specs
        for spec in specs:
            if spec.kind not in (OutputKind.USER_OUTPUT, OutputKind.USER_INPUT_MUTATION):
                reason = f"it changes the stored tensor {spec.target!r}"
                repair = "export the model in eval mode: model.eval()"
                self.assembly.refuse(spec.arg.name, spec.kind.name.lower(), reason, repair)
        kept = [spec.kind is OutputKind.USER_OUTPUT for spec in specs]
        made: Any = node.args[0]
        return [self._value(item) for item, wanted in zip(made, kept, strict=True) if wanted]

    def _take(self, node: fx.Node) -> Any:
        """What one call makes: a value, or a list of them."""
        if node.target is operator.getitem:
            return self._pick(node)
        if node.target is _SCAN:
            return self._scan(node)
        meaning = node.meta.get("val")
        several = isinstance(meaning, list | tuple)
        first = meaning[0] if several and meaning else meaning
        if node.target is torch.ops.aten.sym_size.int and str(meaning) == str(self.batch):
            self.reads_batch = True
            return self.stand_in
        if not isinstance(first, Tensor):  # assertions, and sizes that only reshaping reads
            return Unknown(f"it computes with {operator_of(node.target)}, which is not a constant")
        read = [self._value(item) for item in node.all_input_nodes]
        flat = [i for item in read for i in (item if isinstance(item, list) else [item])]
        if node not in self.needed and not any(isinstance(item, Edge) for item in flat):
            return Unknown()  # a constant that nothing reads
        if not any(isinstance(item, Edge | Unknown) for item in flat):
            return self._fold(node)
        tensors, options = self._arguments(node)
        places = tuple(k for k, size in enumerate(first.shape) if str(size) == str(self.batch))
        rest = [size for axis, size in enumerate(first.shape) if axis not in places[:1]]
        name, op = self._name(node), operator_of(node.target)
        row = reads_torch.get(node.target)
        if row is not None and not (places and plain(rest)):
            reason = f"it makes {list(first.shape)} of {self.batch} samples"
            return self.assembly.refuse(name, op, reason, "keep samples on an axis of their own")
        sizes = tuple(n if isinstance(n, int) else self.stand_in for n in first.shape)
        count = len(meaning) if isinstance(meaning, list | tuple) else 1
        call = Call(name, op, tuple(tensors), options, 0, sizes, places, count)
        made = self.assembly.add(call, row)
        if isinstance(made[0], Edge) and made[0].batch not in places:
            reason = f"samples lie on axis {places[0]} of what it makes"
            return self.assembly.refuse(name, op, reason, "keep samples on the first axis")
        if changes_input(node) and isinstance(node.args[0], fx.Node):
            self.values[node.args[0].name] = made[0]  # later readers see the new value
        return made if several else made[0]

    def _pick(self, node: fx.Node) -> Any:
        """An output of a call with several."""
        source, index = self._value(node.args[0]), node.args[1]
        scan = node.args[0]
        if isinstance(scan, fx.Node) and scan.target is _SCAN and node not in self.needed:
            return Unknown()  # each output is a recurrent layer: those that nothing reads are none
        if not isinstance(source, list):
            return source
        assert isinstance(index, int)
        if index < len(source):
            return source[index]
        lost = any(isinstance(item, Unknown) for item in source)
        return Unknown(None if lost else f"it reads output {index} of {node.args[0]}")

    def _arguments(self, node: fx.Node) -> tuple[list[Any], dict[str, Any]]:
        """Tensors (and the constant operand of a binary operator) in order; the rest by name."""
        tensors: list[Any] = []
        options: dict[str, Any] = {}
        schema: Any = getattr(node.target, "_schema", None)
        arguments = schema.arguments if schema is not None else []
        for index, argument in enumerate(arguments):
            given = node.args[index] if index < len(node.args) else node.kwargs.get(argument.name)
            if given is None and index >= len(node.args) and argument.name not in node.kwargs:
                given = argument.default_value if argument.has_default_value() else None
            if "Tensor" in str(argument.type) or argument.name == "other":
                tensors.append(self._value(given))
            else:
                options[argument.name] = given
        return tensors, options

    def _value(self, item: Any) -> Any:
        if isinstance(item, fx.Node):
            return self.values[item.name]
        return [self._value(i) for i in item] if isinstance(item, list | tuple) else item

    def _fold(self, node: fx.Node) -> Any:
        """What a call on constants gives: only operators that are known to do nothing else are run,
        and none that is random or changes a stored tensor."""
        target, name, op = node.target, self._name(node), operator_of(node.target)
        if not isinstance(target, OpOverload) or target.namespace != "aten":
            return self.assembly.refuse(name, op, "it is not one of torch's operators", "remove it")
        if torch.Tag.nondeterministic_seeded in target.tags:
            return self.assembly.refuse(name, op, "it is random", "store the numbers as a buffer")
        if op not in FOLDABLE:
            reason = "it is not among the operators that are computed on constants"
            return self.assembly.refuse(name, op, reason, "store its result as a buffer")
        if changes_input(node) and target is not torch.ops.aten.detach_.default:
            return self.assembly.refuse(name, op, "it changes a stored tensor", "store its result")
        args = fx.node.map_arg(node.args, lambda n: self.values[n.name])
        kwargs = fx.node.map_arg(node.kwargs, lambda n: self.values[n.name])
        try:
            with torch.no_grad(), bounded_constants(self.budget):
                made = target(*args, **kwargs)
        except TooLargeError as error:
            raise self.assembly.too_large(name, op, error) from error
        except MISFITS as error:
            reason = f"its constant value cannot be computed ({first_line(error)})"
            return self.assembly.refuse(name, op, reason, "store the constant as a buffer")
        return list(made) if isinstance(made, tuple) else made

    def _name(self, node: fx.Node) -> str:
        """The qualified name of the leaf module that makes the call, else the path and the call."""
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        path, kind = stack[-1] if stack else ("", "")
        leaf = isinstance(kind, str) and kind.startswith("torch.nn.modules.")
        leaf = leaf and not kind.endswith((".Sequential", ".ModuleList"))
        if path and leaf:
            return str(path)
        return f"{path}.{node.name}" if path else node.name
