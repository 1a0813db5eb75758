"""What is read off at the end, outside the spikes: logits on one scale, and a final softmax."""

from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Annotated, Any

import torch
from torch import Tensor

from spikemorph.graph import Op
from spikemorph.graph.calls import Call, Refusal, samples_anywhere
from spikemorph.graph.fields import WHOLE, Above, Between, Shape
from spikemorph.graph.stages import INTEGER, PREPARED, Seat
from spikemorph.graph.tables import (
    on_boxes,
    on_increments,
    on_integers,
    on_ranges,
    reads_onnx,
    reads_torch,
)
from spikemorph.graph.traits import Ends

from .activation import Sigmoid, Tanh
from .boxes import Box, monotone
from .ladder import along_channels
from .ranges import Range

aten: Any = torch.ops.aten


@dataclass(frozen=True, eq=False)
class Softmax(Op):
    """``exp(x) / sum exp(x)`` along an axis (that counts the batch), or its logarithm."""

    axis: Annotated[int, Between(1)]
    logarithm: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        return x.log_softmax(self.axis) if self.logarithm else x.softmax(self.axis)


Analog = Softmax | Sigmoid | Tanh  # what may follow the logits, outside the spikes


@dataclass(frozen=True, eq=False)
class Readout(Ends):
    """The integer network's last node: brings channels to one scale by integer factors.

    Real output: ``analog(unit * factors * C)``. ``factors`` is (channel,) or (1,) int64; ``analog``
    are ops kept outside the spiking part (a final softmax), applied in order.
    """

    factors: Annotated[Tensor, WHOLE, Shape("channel")]
    unit: Annotated[Fraction, Above(0)]
    analog: tuple[Analog, ...] = ()

    def real(self, integers: Tensor) -> Tensor:
        """The real output (sample, *shape), float64, from this node's integers."""
        x = integers.to(torch.float64) * float(self.unit)
        for op in self.analog:
            x = op(x)
        return x


@on_integers(Readout)
@on_increments(Readout)
def _scale(op: Readout, x: Tensor) -> Tensor:
    return x * along_channels(op.factors, x).to(x.dtype)


@on_ranges(Readout)
def _on_ranges(op: Readout, source: Range) -> Range:
    return source.scaled(op.factors)


@on_boxes(Readout)
def _on_boxes(op: Readout, box: Box) -> Box:
    """Of the sums; what is analog behind them puts no logit before another."""
    return monotone(partial(_scale, op), box)


@PREPARED(Softmax)
def _only_at_the_end(op: Softmax, seat: Seat) -> None:
    repair = "a softmax is kept only at the very end, in the analog read-out"
    raise Refusal("it stands inside the network", repair)


@INTEGER(Readout)
def _allowed(op: Readout, seat: Seat) -> None:
    if seat.output is None:
        raise Refusal("it stands inside the network", "a read-out is the last node")
    for last in op.analog:
        if isinstance(last, Softmax) and last.axis > len(seat.output):
            reason = f"its softmax runs over axis {last.axis}, which the logits do not have"
            raise Refusal(reason, "convert the model again")


@reads_torch(
    aten.softmax.int, aten._softmax.default, aten.log_softmax.int, aten._log_softmax.default
)
@samples_anywhere
def _read_torch(call: Call) -> Softmax:
    return _softmax(int(call.option("dim")), call, "log" in call.op)


@reads_onnx("Softmax", "LogSoftmax")
@samples_anywhere
def _read_onnx(call: Call) -> Softmax:
    axis = int(call.option("axis", 1 if call.version < 13 else -1))
    return _softmax(axis, call, call.op == "LogSoftmax")


def _softmax(axis: int, call: Call, logarithm: bool) -> Softmax:
    shape = call.edge.shape
    axis = call.edge.axis(axis)
    if axis == 0:
        raise Refusal("it runs over samples", "run it over the classes: axis 1")
    # Before operator set 13 all axes from `axis` on were one: the same where the later ones are 1.
    if 0 < call.version < 13 and call.edge.batch:
        raise Refusal("samples do not lie first", "export with operator set 13 or newer")
    if 0 < call.version < 13 and any(size != 1 for size in shape[axis:]):
        raise Refusal(
            f"in operator set {call.version} it runs over axes {axis} to {len(shape)} together",
            "flatten its input, or export with operator set 13 or newer",
        )
    return Softmax(axis, logarithm)
