"""Batch normalisation with its running statistics; folded away before conversion."""

from dataclasses import dataclass
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spikemorph.graph import Op
from spikemorph.graph.calls import Call, Refusal
from spikemorph.graph.fields import NUMBERS, Between, Shape
from spikemorph.graph.tables import on_boxes, opens, reads_onnx, reads_torch

from .affine import ScaleShift
from .boxes import Box, monotone

aten: Any = torch.ops.aten
PerChannel = Annotated[Tensor, NUMBERS, Shape("channel")]
MOMENTUM = 0.1  # of running statistics, torch's default


@dataclass(frozen=True, eq=False)
class BatchNorm(Op):
    """``y = gain (x - mean) / sqrt(variance + eps) + shift``, each of them (channel,)."""

    learns = ("gain", "shift")
    remembers = ("mean", "variance")

    mean: PerChannel
    variance: Annotated[Tensor, NUMBERS, Shape("channel"), Between(0)]
    gain: PerChannel
    shift: PerChannel
    eps: Annotated[float, Between(0)]

    def __call__(self, x: Tensor) -> Tensor:
        mean, variance, gain, shift = (
            t.to(x) for t in (self.mean, self.variance, self.gain, self.shift)
        )
        return F.batch_norm(x, mean, variance, gain, shift, eps=self.eps)

    def in_training(self, *inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Normalised by the batch's own statistics, which the running ones are moved towards.

        A tenth of the way, to the mean and the unbiased variance, as torch does by default.
        """
        (x,) = inputs
        mean, variance = self.mean.clone(), self.variance.clone()
        y = F.batch_norm(x, mean, variance, self.gain, self.shift, True, MOMENTUM, self.eps)
        return y, {"mean": mean, "variance": variance}


@on_boxes(BatchNorm)
def _on_boxes(op: BatchNorm, box: Box) -> Box:
    return monotone(op, box)


@opens(BatchNorm)
def _opened(op: BatchNorm, source: tuple[int, ...]) -> tuple[tuple[str, Op], ...]:
    """A scale and shift: ``gain / sqrt(variance + eps)`` per channel."""
    wide = (-1, *[1] * (len(source) - 1))
    gain = op.gain.double() / torch.sqrt(op.variance.double() + op.eps)
    shift = op.shift.double() - op.mean.double() * gain
    return (("", ScaleShift(gain.reshape(wide), shift.reshape(wide))),)


@reads_torch(
    aten.batch_norm.default,
    aten._native_batch_norm_legit_no_training.default,
)
def _read_torch(call: Call) -> BatchNorm:
    if call.option("training", False):
        raise Refusal("it uses batch statistics", "export the model in eval mode: model.eval()")
    mean, variance = call.constant(3, "running mean"), call.constant(4, "running variance")
    gain, shift = call.optional(1), call.optional(2)
    gain = torch.ones_like(mean) if gain is None else gain
    shift = torch.zeros_like(mean) if shift is None else shift
    return _norm(mean, variance, gain, shift, float(call.option("eps", 1e-5)))


@reads_onnx("BatchNormalization")
def _read_onnx(call: Call) -> BatchNorm:
    call.refuse_unless("training_mode", [0], 0)
    call.refuse_unless("spatial", [1], 1)
    gain, shift, mean, variance = (call.constant(k, f"input {k}") for k in (1, 2, 3, 4))
    return _norm(mean, variance, gain, shift, float(call.option("epsilon", 1e-5)))


def _norm(mean: Tensor, variance: Tensor, gain: Tensor, shift: Tensor, eps: float) -> BatchNorm:
    if not eps >= 0:
        raise Refusal(f"its eps is {eps:g}", "give an eps of 0 or more")
    bad = (variance.double() + eps <= 0).nonzero()
    if len(bad):
        index = int(bad[0])
        value = float(variance[index])
        raise Refusal(
            f"its variance[{index}] is {value:g}, which has no square root", "repair the checkpoint"
        )
    return BatchNorm(mean, variance, gain, shift, eps)
