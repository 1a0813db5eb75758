"""Read an ONNX file into a float graph, folding everything that does not depend on the sample."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor

from spikemorph.graph import Graph, Input, InputError
from spikemorph.graph.calls import Call, Edge, Refusal
from spikemorph.graph.tables import reads_onnx

from .assembly import Assembly, Unknown

OLDEST = 7  # operator set; older files spell broadcasting in another way
_RESHAPING = {"Flatten", "Reshape", "Squeeze", "Unsqueeze"}
_DYNAMIC_BATCH = 3  # stands for an open batch size while shapes are worked out


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
    return _Reading(path, _load(path), input_shape).graph()


def _load(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty; export the model again")
    try:
        model = onnx.load(str(path))
    except (DecodeError, ValueError, OSError, onnx.checker.ValidationError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: not a readable ONNX file ({reason}); export it again") from error
    if not model.graph.node or not model.graph.output:
        raise InputError(f"{path}: not an ONNX model, or one without nodes; export it again")
    return model


class _Reading:
    """One reading of one file: the values known so far, by the file's names."""

    def __init__(
        self, path: Path, model: onnx.ModelProto, input_shape: tuple[int, ...] | None
    ) -> None:
        self.path, self.model = path, model
        self.version = self._operator_set()
        self.values: dict[str, Any] = {
            item.name: _tensor(path, item) for item in model.graph.initializer
        }
        self.assembly = Assembly(str(path))
        self._enter(input_shape)

    def graph(self) -> Graph:
        for node in self.model.graph.node:
            self._take(node)
        outputs = [self.values.get(item.name) for item in self.model.graph.output]
        return self.assembly.graph(outputs)

    def _operator_set(self) -> int:
        sets = {item.domain: item.version for item in self.model.opset_import}
        version = int(sets.get("", sets.get("ai.onnx", 0)))
        if version < OLDEST:
            raise InputError(
                f"{self.path}: operator set {version}; 7 or newer is needed: "
                "run onnx.version_converter.convert_version(model, 13)"
            )
        return version

    def _enter(self, given: tuple[int, ...] | None) -> None:
        open_inputs = [i for i in self.model.graph.input if i.name not in self.values]
        if len(open_inputs) != 1:
            names = [item.name for item in open_inputs]
            raise InputError(f"{self.path}: one input is expected, the model has {names}")
        (entry,) = open_inputs
        dims = [d.dim_value or None for d in entry.type.tensor_type.shape.dim]
        if given is not None:
            if dims and len(dims) != len(given):
                raise InputError(f"{self.path}: --input-shape {given} has not {len(dims)} axes")
            dims = [a or b for a, b in zip(dims, given, strict=True)] if dims else list(given)
        if len(dims) < 2 or None in dims[1:]:
            raise InputError(
                f"{self.path}: input {entry.name!r} has open sizes {dims}; give --input-shape"
            )
        self.batch = dims[0] or _DYNAMIC_BATCH
        shape = tuple(int(d) for d in dims[1:] if d)
        self.values[entry.name] = self.assembly.enter(entry.name, Input(shape))

    def _take(self, node: onnx.NodeProto) -> None:
        inputs = [self.values.get(name, Unknown()) if name else None for name in node.input]
        name = node.name or f"{node.op_type}_{node.output[0]}"
        for spare in node.output[1:]:
            self.values[spare] = Unknown()
        if node.domain not in ("", "ai.onnx"):
            repair = "only standard ONNX operators are read"
            result = self.assembly.refuse(name, node.op_type, f"domain {node.domain!r}", repair)
        elif node.op_type in ("Shape", "Size") and isinstance(inputs[0], Edge):
            result = self._sizes(node, inputs[0])
        elif not any(isinstance(item, Edge | Unknown) for item in inputs):
            result = self._fold(name, node, inputs)
        else:
            result = self._read(name, node, inputs)
        self.values[node.output[0]] = result

    def _read(self, name: str, node: onnx.NodeProto, inputs: list[Any]) -> Any:
        options = {item.name: _attribute(item) for item in node.attribute}
        row = reads_onnx.get(node.op_type)
        call = Call(name, node.op_type, tuple(inputs), options, self.version)
        if row is not None and node.op_type in _RESHAPING and call.edges:
            try:
                shape = self._reshaped(node, inputs)
            except Refusal as refusal:
                return self.assembly.refuse(name, node.op_type, refusal.reason, refusal.repair)
            call = Call(name, node.op_type, tuple(inputs), options, self.version, shape)
        return self.assembly.add(call, row)

    def _sizes(self, node: onnx.NodeProto, edge: Edge) -> Tensor:
        zeros = np.broadcast_to(np.float32(0), (self.batch, *edge.shape))
        return torch.from_numpy(np.array(self._evaluate(node, [zeros])))

    def _reshaped(self, node: onnx.NodeProto, inputs: list[Any]) -> tuple[int, ...]:
        """One sample's shape after a reshaping node, which must leave the batch axis alone."""
        arrays = [
            np.zeros((self.batch, *item.shape), np.float32)
            if isinstance(item, Edge)
            else _array(item)
            for item in inputs
        ]
        try:
            out = self._evaluate(node, arrays).shape
        except (ValueError, RuntimeError, IndexError, TypeError) as error:
            raise Refusal(
                f"its shape cannot be worked out ({error})", "check --input-shape"
            ) from error
        if not out or out[0] != self.batch:
            raise Refusal(
                f"it turns {arrays[0].shape} into {out}, which moves the batch axis",
                "keep samples on the first axis",
            )
        return tuple(int(n) for n in out[1:])

    def _fold(self, name: str, node: onnx.NodeProto, inputs: list[Any]) -> Any:
        try:
            value = self._evaluate(node, [_array(item) for item in inputs])
        except Exception as error:  # the evaluator raises whatever its operators raise
            reason = f"its constant value cannot be computed ({str(error).splitlines()[0]})"
            return self.assembly.refuse(name, node.op_type, reason, "simplify the file first")
        return torch.from_numpy(np.array(value))

    def _evaluate(self, node: onnx.NodeProto, inputs: Sequence[Any]) -> Any:
        """The first output of one node, by ONNX's own reference implementation."""
        given = [(n, a) for n, a in zip(node.input, inputs, strict=True) if n]
        infos = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in dict(given).items()
        ]
        out = helper.make_tensor_value_info(node.output[0], 0, None)
        graph = helper.make_graph([node], "one", infos, [out])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.version)])
        return ReferenceEvaluator(model).run(None, dict(given))[0]


def _array(item: Any) -> Any:
    return None if item is None else item.numpy()


def _tensor(path: Path, item: onnx.TensorProto) -> Tensor:
    try:
        array = numpy_helper.to_array(item)
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: weight {item.name!r} is damaged ({error})") from error
    if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    return torch.from_numpy(np.array(array))


def _attribute(item: onnx.AttributeProto) -> Any:
    value = helper.get_attribute_value(item)
    return value.decode() if isinstance(value, bytes) else value
