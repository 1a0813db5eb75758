"""An operation that is not known yet: its class and its reader are one file, and it goes all the way.

`torch.roll` only moves numbers, so the trait `Moves` says all that conversion, proof, counting and
pruning have to know. An operation that computes needs rows of its own: the error names those it lacks.

    python examples/custom_op.py
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from digits_net import DigitsNet, digits, trained
from torch import Tensor

import spikemorph as sm
from spikemorph.graph.calls import Call, Refusal
from spikemorph.graph.fields import Between
from spikemorph.graph.tables import reads_torch
from spikemorph.graph.traits import Moves


@dataclass(frozen=True, eq=False)
class Roll(Moves):
    """The numbers along an axis (that counts the batch) shifted around."""

    shift: int
    axis: Annotated[int, Between(1)]

    def __call__(self, x: Tensor) -> Tensor:
        """(sample, *shape) to the same shape."""
        return x.roll(self.shift, self.axis)


@reads_torch(torch.ops.aten.roll.default)
def read_roll(call: Call) -> Roll:
    """`torch.roll` along one axis."""
    shifts, axes = call.option("shifts"), call.option("dims", ())
    if len(axes) != 1 or axes[0] % (len(call.edge.shape) + 1) == 0:
        raise Refusal(
            "it rolls several axes, or the samples", "roll one axis of positions or channels"
        )
    return Roll(int(shifts[0]), int(axes[0]) % (len(call.edge.shape) + 1))


class Rolling(DigitsNet):
    """The same network, its images shifted by a pixel to the right and back again by a layer."""

    def forward(self, x: Tensor) -> Tensor:
        """(sample, 1, 8, 8) images in 0..1 to (sample, 10) logits."""
        return super().forward(x.roll(1, 3).roll(-1, 3))


model = Rolling()
model.load_state_dict(trained().state_dict())
images, _ = digits("train")
x, y = digits("test")

print(sm.inspect(model.eval(), input_shape=(1, 1, 8, 8)))
snn = sm.to_snn(model, images, input_range=(0.0, 1.0))
print(snn)
print(snn.evaluate(x, y))
