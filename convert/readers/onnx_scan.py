"""What an ONNX Scan says around its body, checked before the body is read."""

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from torch import Tensor

from spikemorph.graph.calls import Edge, Refusal

from . import onnx_values
from .onnx_files import inner_graphs
from .scans import Plan, element_of, starts_of

_OLDEST = 9  # before, a Scan had an axis of samples of its own
_AGAIN = "export the model again"


def count_nodes(graph: onnx.GraphProto) -> int:
    """The nodes of a graph, and of all graphs in them."""
    inner = sum(count_nodes(g) for node in graph.node for g in inner_graphs(node))
    return len(graph.node) + inner


def plan_of(
    node: onnx.NodeProto, inputs: Sequence[Any], version: int, batch: int
) -> tuple[onnx.GraphProto, Plan]:
    """The body of a Scan that reads these values, and how it is run.

    Raises
    ------
    Refusal
        If the body does not fit, or it is run in a way that is not supported.
    """
    told: dict[str, Any] = {item.name: onnx_values.attribute(item) for item in node.attribute}
    body: Any = told.get("body")
    scanned: Any = told.get("num_scan_inputs")
    known = isinstance(body, onnx.GraphProto) and isinstance(scanned, int)
    if not known or len(body.input) != len(inputs) or not 0 < scanned <= len(inputs):
        raise Refusal("its body does not fit what it reads", _AGAIN)
    starts, xs = inputs[:-scanned], inputs[-scanned:]
    if version < _OLDEST or not all(isinstance(x, Edge) for x in xs):
        reason = f"it scans constants, or is older than operator set {_OLDEST}"
        raise Refusal(reason, f"scan a computed value, and {_AGAIN}")
    given = len(body.output) - len(starts)
    axes = _numbers(told, "scan_input_axes") or [0] * scanned
    outer = tuple(_numbers(told, "scan_output_axes") or [0] * given)
    if given < 0 or len(axes) != scanned or len(outer) != given:
        raise Refusal("its body does not fit what it gives out", _AGAIN)
    begin = _starts(starts, batch)
    elements = tuple(element_of(x, axis) for x, axis in zip(xs, axes, strict=True))
    return body, Plan(begin, elements, _direction(told, scanned, given), outer)


def _numbers(told: Mapping[str, Any], name: str) -> list[int]:
    """An attribute that is a list of whole numbers; empty where it is not told."""
    values = told.get(name) or []
    if not isinstance(values, list) or not all(isinstance(item, int) for item in values):
        raise Refusal(f"its attribute {name!r} holds no whole numbers", _AGAIN)
    return list(values)


def _starts(values: Sequence[Any], batch: int) -> tuple[Tensor, ...]:
    """The starts of a Scan's states, of one sample."""
    for value in values:
        if isinstance(value, Tensor) and (value.dim() < 2 or len(value) != batch):
            reason = f"its first state has shape {tuple(value.shape)}"
            raise Refusal(reason, f"give (sample, feature), of {batch} samples here")
    return starts_of(values)


def _direction(told: Mapping[str, Any], scanned: int, given: int) -> bool:
    """Whether a Scan goes backwards; what it reads and what it gives out must lie alike."""
    ways = _numbers(told, "scan_input_directions") or [0] * scanned
    ways += _numbers(told, "scan_output_directions") or [0] * given
    if len(set(ways)) > 1:
        raise Refusal("it reads and gives out in both directions", "use one direction a Scan")
    return bool(ways[0])
