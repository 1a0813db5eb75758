"""Values of an ONNX file that no sample changes: weights, attributes, what follows from them."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.graph.calls import Edge, Refusal

from .assembly import MISFITS, Unknown, first_line
from .budget import Budget, TooLargeError
from .onnx_sizes import cost

_NOTHING = np.dtype("V0")  # of values whose shape alone is known: they take no memory
_RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomUniform"}


def require_text(message: Any) -> None:
    """Raise `ValueError` where any text of a message is none: the parser leaves damaged text as bytes."""
    for field, value in message.ListFields():
        if field.type not in (field.TYPE_STRING, field.TYPE_MESSAGE):
            continue
        one = isinstance(value, str | bytes) or hasattr(value, "ListFields")
        for item in (value,) if one else value:
            if field.type == field.TYPE_MESSAGE:
                require_text(item)
            elif not isinstance(item, str):
                raise ValueError(f"the {field.name} {item!r} is not text")


def weight(path: Path, item: onnx.TensorProto) -> Tensor | Unknown:
    """An initialiser as a tensor; unknown where it holds text.

    Raises
    ------
    InputError
        If its bytes do not fit its shape and type.
    """
    try:
        if any(n < 0 for n in item.dims):
            raise ValueError(f"its sizes are {list(item.dims)}")
        return tensor(numpy_helper.to_array(item))
    except MISFITS as error:
        if item.data_type == onnx.TensorProto.STRING:
            return Unknown(f"it reads {item.name!r}, which holds text")
        reason = first_line(error)
        raise InputError(
            f"{path}: weight {item.name!r} is damaged ({reason}); export the model again"
        ) from error


def tensor(array: Any) -> Tensor:
    """A tensor with memory of its own; half precision and narrower becomes float32."""
    found = np.asarray(array)
    if found.base is not None or not found.flags.owndata or not found.flags.writeable:
        found = found.copy()
    if found.dtype == np.float16 or found.dtype.kind == "V":
        found = found.astype(np.float32)
    return torch.from_numpy(found)


def is_double(model: onnx.ModelProto, entry: str) -> bool:
    """Whether the input of that name is in double precision."""
    return _kind(model, entry) == onnx.TensorProto.DOUBLE


def is_floating(model: onnx.ModelProto, entry: str) -> bool:
    """Whether the input of that name holds floats, or the file does not say what."""
    floats = ("UNDEFINED", "FLOAT", "FLOAT16", "DOUBLE", "BFLOAT16")
    return _kind(model, entry) in [getattr(onnx.TensorProto, kind) for kind in floats]


def _kind(model: onnx.ModelProto, entry: str) -> int:
    """The data type of the input of that name, by ONNX's number."""
    kinds = {item.name: item.type.tensor_type.elem_type for item in model.graph.input}
    return int(kinds[entry])


def attribute(item: onnx.AttributeProto) -> Any:
    """An attribute's value.

    Floats are stored in single precision; the shortest decimal that rounds to one is what was
    meant, so that an eps of 1e-5 is 1e-5, as it is in torch.
    """
    try:
        value = helper.get_attribute_value(item)
        if item.type == onnx.AttributeProto.FLOAT:
            return float(str(np.float32(value)))
        return value.decode() if isinstance(value, bytes) else value
    except ValueError as error:  # of a function's caller, or no text
        reason = f"its attribute {item.name!r} has no value ({first_line(error)})"
        raise Refusal(reason, "export the model again") from error


def sizes(node: onnx.NodeProto, shape: Sequence[int]) -> Tensor:
    """What a Shape or Size node gives for a value of a known shape."""
    if node.op_type == "Size":
        return torch.tensor(math.prod(shape))
    options = {item.name: attribute(item) for item in node.attribute}
    return torch.tensor(shape[options.get("start", 0) : options.get("end")], dtype=torch.int64)


def reshaped(
    node: onnx.NodeProto, inputs: Sequence[Any], version: int, batch: int
) -> tuple[int, ...]:
    """The output's shape after a reshaping node, samples included."""
    arrays = [
        np.empty((*item.shape[: item.batch], batch, *item.shape[item.batch :]), _NOTHING)
        if isinstance(item, Edge)
        else item
        for item in inputs
    ]
    try:
        out = evaluate(node, arrays, version)[0].shape
    except MISFITS as error:
        reason = f"its shape cannot be worked out ({first_line(error)})"
        raise Refusal(reason, "check the input shape") from error
    return tuple(int(n) for n in out)


def folded(
    node: onnx.NodeProto, inputs: Sequence[Any], version: int, budget: Budget
) -> list[Tensor]:
    """The outputs of a node that reads constants only; what they cost is taken from the budget.

    Raises
    ------
    Refusal
        If they are random, or ONNX's reference implementation cannot compute them.
    TooLargeError
        If they cost more than is left.
    """
    if node.op_type in _RANDOM:
        raise Refusal("it is random", "store the numbers in the model")
    if any(item.type == onnx.AttributeProto.GRAPH for item in node.attribute):
        raise Refusal("control flow is not supported", "export the model without it")
    kinds = (onnx.AttributeProto.SPARSE_TENSOR, onnx.AttributeProto.SPARSE_TENSORS)
    if any(item.type in kinds for item in node.attribute):
        raise Refusal("it holds a sparse tensor", "store the tensor dense")
    try:
        spent = cost(node, [i.numpy() if isinstance(i, Tensor) else i for i in inputs])
        if spent is not None:
            budget.spend(spent)
            return [tensor(value) for value in evaluate(node, inputs, version)]
    except TooLargeError:
        raise
    except Exception as error:  # the evaluator raises whatever its operators raise
        reason = f"its constant value cannot be computed ({first_line(error)})"
        raise Refusal(reason, "simplify the file first") from error
    reason = "it is not among the operators that are computed on constants"
    raise Refusal(reason, "simplify the file first")


def evaluate(node: onnx.NodeProto, inputs: Sequence[Any], version: int) -> list[Any]:
    """The outputs of one node, by ONNX's own reference implementation."""
    arrays = [item.numpy() if isinstance(item, Tensor) else item for item in inputs]
    given = {n: a for n, a in zip(node.input, arrays, strict=True) if n}
    infos = [helper.make_tensor_value_info(n, 0, None) for n in given]
    outs = [helper.make_tensor_value_info(name, 0, None) for name in node.output if name]
    graph = helper.make_graph([node], "one", infos, outs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)])
    with (
        np.errstate(all="ignore"),
        warnings.catch_warnings(),
    ):  # what is not finite is refused later
        warnings.simplefilter("ignore")
        return list(ReferenceEvaluator(model).run(None, given))
