"""Read a torch module, or a program exported by torch.export, into a float graph."""

import copy
import io
import operator
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from spikemorph.graph import Graph, Input, InputError
from spikemorph.graph.calls import Call, Edge
from spikemorph.graph.tables import reads_torch

from .assembly import Assembly, Unknown


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
    pair = torch.cat([example[:1], example[:1]])  # a batch of two: batch and size 1 stay apart
    try:
        program = torch.export.export(copy.deepcopy(model).eval(), (pair,))
    except Exception as error:  # the exporter raises many kinds, all of them about the model
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise InputError(f"{where}: torch.export cannot trace it: {reason}") from error
    return read_program(program, where)


def read_pt2(path: Path) -> Graph:
    """Read a file written by torch.export.save, without unpickling anything.

    Raises
    ------
    InputError
        If the file is missing, damaged, holds pickled objects, or is no exported program.
    UnsupportedError
        Naming every call that cannot be taken.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path}: not a .pt2 archive; write it with torch.export.save")
    _refuse_pickles(path)
    try:
        program = torch.export.load(str(path))
    except Exception as error:  # the loader raises many kinds, all of them about the file
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise InputError(f"{path}: not a readable exported program: {reason}") from error
    return read_program(program, str(path))


def _refuse_pickles(path: Path) -> None:
    """Refuse an archive with a member that torch could only load by running its pickle."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if any(name.endswith("data.pkl") for name in names):
            raise InputError(
                f"{path}: this is a pickled checkpoint, which is never loaded; give the code as "
                "package.module:factory and the weights as safetensors with --weights"
            )
        for name in names:
            if not name.endswith((".pt", ".pkl", ".pickle")):
                continue
            try:
                torch.load(io.BytesIO(archive.read(name)), weights_only=True)
            except Exception as error:  # whatever it raises, plain tensors it is not
                raise InputError(f"{path}: member {name} is pickled; export it again") from error


def read_program(program: ExportedProgram, where: str) -> Graph:
    """Read an exported program; see `read_torch`."""
    return _Reading(program, where).graph()


class _Reading:
    """One reading of one program: the values known so far, by the program's names."""

    def __init__(self, program: ExportedProgram, where: str) -> None:
        self.program, self.where = program, where
        self.assembly = Assembly(where)
        self.values: dict[str, Any] = {}
        self.batch: Any = None

    def graph(self) -> Graph:
        specs = {spec.arg.name: spec for spec in self.program.graph_signature.input_specs}
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                self.values[node.name] = self._placeholder(node, specs[node.name])
            elif node.op == "call_function":
                self._take(node)
            elif node.op == "output":
                return self.assembly.graph([self._value(item) for item in node.args[0]])
        raise InputError(f"{self.where}: the program has no output")

    def _placeholder(self, node: fx.Node, spec: Any) -> Any:
        if spec.kind is InputKind.USER_INPUT:
            if self.batch is not None:
                raise InputError(f"{self.where}: one input is expected, {node.name!r} is another")
            self.batch, *shape = node.meta["val"].shape
            return self.assembly.enter(node.name, Input(_numbers(shape, self.where)))
        stored = {**self.program.state_dict, **self.program.constants}
        value = stored.get(spec.target)
        return value.detach() if isinstance(value, Tensor) else Unknown()

    def _take(self, node: fx.Node) -> None:
        meaning = _first(node.meta.get("val"))
        if meaning is None:  # sizes and assertions, of no use once shapes are known
            self.values[node.name] = Unknown()
            return
        if node.target is operator.getitem:
            self.values[node.name] = self._pick(node)
            return
        tensors, options = self._arguments(node)
        read = [self._value(item) for item in node.all_input_nodes]
        if not any(isinstance(item, Edge | Unknown) for item in read):
            self.values[node.name] = self._fold(node)
            return
        call = self._call(node, tensors, options)
        if call is None:
            return
        made = self.assembly.add(call, reads_torch.get(node.target))
        self.values[node.name] = made
        if call.op.endswith("_") and isinstance(node.args[0], fx.Node):
            self.values[node.args[0].name] = made  # in place: later readers see the new value

    def _pick(self, node: fx.Node) -> Any:
        """An output of a call with several: the first is the value, the others cannot be taken."""
        source, index = node.args[0], node.args[1]
        value = self._value(source)
        if index == 0 or isinstance(value, Unknown):
            return value
        reason = f"it reads output {index} of {source}"
        repair = "only first outputs are read (no indices, no pieces)"
        return self.assembly.refuse(self._name(node), "getitem", reason, repair)

    def _call(self, node: fx.Node, tensors: list[Any], options: dict[str, Any]) -> Call | None:
        name, op = self._name(node), _operator(node.target)
        meaning = _first(node.meta["val"])
        assert meaning is not None
        batch, *shape = meaning.shape
        if str(batch) != str(self.batch):
            repair = "keep samples on the first axis"
            reason = f"it makes {batch} rows of {self.batch} samples"
            self.values[node.name] = self.assembly.refuse(name, op, reason, repair)
            return None
        return Call(name, op, tuple(tensors), options, 0, _numbers(shape, self.where))

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
            return self.values.get(item.name, Unknown())
        return [self._value(i) for i in item] if isinstance(item, list | tuple) else item

    def _fold(self, node: fx.Node) -> Any:
        args = fx.node.map_arg(node.args, lambda n: self.values[n.name])
        kwargs = fx.node.map_arg(node.kwargs, lambda n: self.values[n.name])
        with torch.no_grad():
            target: Any = node.target
            return target(*args, **kwargs)

    def _name(self, node: fx.Node) -> str:
        """The qualified name of the leaf module that makes the call, else the path and the call."""
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        path, kind = stack[-1] if stack else ("", "")
        leaf = isinstance(kind, str) and kind.startswith("torch.nn.modules.")
        leaf = leaf and not kind.endswith((".Sequential", ".ModuleList"))
        if path and leaf:
            return str(path)
        return f"{path}.{node.name}" if path else node.name


def _operator(target: Any) -> str:
    """``aten.conv2d.default`` is ``conv2d``."""
    return str(getattr(target, "_opname", getattr(target, "__name__", target)))


def _first(meaning: Any) -> Tensor | None:
    """What a call gives: its tensor, or the first of several; None where it gives no tensor."""
    if isinstance(meaning, list | tuple) and meaning:
        meaning = meaning[0]
    return meaning if isinstance(meaning, Tensor) else None


def _numbers(shape: Any, where: str) -> tuple[int, ...]:
    if not all(isinstance(n, int) for n in shape):
        raise InputError(f"{where}: only the batch size may be open, got {list(shape)}")
    return tuple(shape)
