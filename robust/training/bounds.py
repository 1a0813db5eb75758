"""What training with bounds makes small: the loss at the worst outputs that boxes cannot rule out.

A network that is trained so can be *proved* robust, by the same boxes (`robust.certified`). ``m_j`` is a
lower bound of ``logit[y] - logit[j]`` over a box of inputs (`layers.margins`); the worst logits are
``-m``, zero at the label. Boxes are wide at first, so eps rises from zero over the first `ramp` of the
run, and the loss moves from clean images to boxes as it does (Gowal et al., ICCV 2019).
"""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from spikemorph.graph import InputError, Node
from spikemorph.graph.tables import on_boxes
from spikemorph.layers.boxes import Box, edge_boxes
from spikemorph.layers.margins import margins
from spikemorph.surrogate import SpikingModule
from spikemorph.train import GraphModule
from spikemorph.train.fabric import bare

from .inner_attack import Ascent, cross_entropies, under_attack


@runtime_checkable
class Bounded(Protocol):
    """A network that bounds its own margins, as `QuantisedModule` does."""

    def margins(self, lower: Tensor, upper: Tensor, labels: Tensor) -> Tensor:
        """(sample, class) lower bounds of ``logit[label] - logit[j]`` between two inputs."""
        ...


def margins_of(model: nn.Module, lower: Tensor, upper: Tensor, labels: Tensor) -> Tensor:
    """Lower bounds of ``logit[label] - logit[j]``, with gradients: (sample, class).

    Parameters
    ----------
    model : Module
        A `GraphModule`, in evaluation as far as batch norms are concerned, or what is `Bounded`.
    lower, upper : Tensor
        (sample, *shape), between which all inputs lie.
    labels : Tensor
        (sample,) int64.

    Raises
    ------
    UnsupportedError
        Naming every node that passes no boxes.
    InputError
        If the model is of another kind.
    """
    own = bare(model)
    if isinstance(own, Bounded):
        return own.margins(lower, upper, labels)
    if isinstance(own, SpikingModule) or not isinstance(own, GraphModule):
        raise InputError(
            f"bounds of a {type(own).__name__}: only networks in floats, and quantised ones, have them; "
            "train through time by another objective"
        )
    learnt = own.learnt()

    def boxed(node: Node, *boxes: Box) -> Box:
        op = learnt(node.name, node)
        made: Box = on_boxes[type(op)](op, *boxes)
        return made

    def linear(node: Node, *inputs: Tensor) -> Tensor:
        return learnt(node.name, node)(*inputs)

    found = {node.name: box for node, box in edge_boxes(own.graph, Box(lower, upper), boxed)}
    return margins(own.graph, found, labels, linear)


@dataclass(frozen=True)
class IntervalBounds:
    """``beta CE(f(x), y) + (1 - beta) CE(-m, y)``, m of the cube of half width eps (IBP).

    Gowal et al., ICCV 2019: both eps and the share of the second term rise from zero over the first
    `ramp` of the run.

    Parameters
    ----------
    eps : float
        Half the width of the cube, inputs being in [0, 1]: 8/255, not 8. It is clipped to [0, 1].
    beta : float
        What clean images keep of the loss in the end, 0 to 1, less than 1.
    ramp : float
        The share of the run over which eps rises; 0: it is whole at once.
    share : float
        How far it has risen; 1 is the whole.

    Raises
    ------
    InputError
        If a number is outside its range.
    """

    eps: float
    beta: float = 0.0
    ramp: float = 0.5
    share: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.eps <= 1:
            raise InputError(
                f"eps {self.eps:g}: bounds need one above 0, at most the inputs' range of 1: 8/255"
            )
        if not 0 <= self.beta < 1:
            raise InputError(
                f"beta {self.beta:g}: the share of clean images is 0 or more, less than 1"
            )
        if not 0 <= self.ramp <= 1 or not 0 <= self.share <= 1:
            raise InputError(f"ramp {self.ramp:g}: give a share of the run, 0 to 1")

    def at(self, progress: float) -> "IntervalBounds":
        """With eps as it is once this share of the run has passed."""
        return replace(self, share=min(1.0, progress / self.ramp) if self.ramp else 1.0)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
        """The mean over the batch; `x` in [0, 1]."""
        proved = self.share * (1 - self.beta)
        clean = F.cross_entropy(model(x).float(), y) if proved < 1 else x.new_zeros(())
        if not proved:
            return clean
        lower, upper = self.box(model, x, y, generator)
        worst = -margins_of(model, lower, upper, y)
        return proved * F.cross_entropy(worst.float(), y) + (1 - proved) * clean

    def box(
        self, model: nn.Module, x: Tensor, y: Tensor, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """The lower and the upper ends of the box of each sample."""
        del model, y, generator
        return _cube(x, x, self.share * self.eps, self.share * self.eps)


@dataclass(frozen=True)
class SmallBoxes(IntervalBounds):
    """The same, of a small box around a bad image: ``beta`` of eps wide (SABR).

    Mueller, Eckert, Fischer and Vechev, ICLR 2023: x~ is found within ``(1 - beta) eps`` by ascent on the
    cross-entropy, the box has half width ``beta eps`` and lies within eps. It regularises less than the
    whole cube, so clean accuracy is higher, and bounds by boxes alone prove less: certify by linear ones.

    Parameters
    ----------
    eps, ramp, share : float
        As of `IntervalBounds`.
    beta : float
        The box's share of eps, above 0, less than 1.
    steps : int
        Of the ascent.
    """

    beta: float = 0.4
    steps: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.beta > 0 or self.steps < 1:
            raise InputError(
                f"beta {self.beta:g}, {self.steps} steps: small boxes are some share of eps wide, above "
                "0, and found in 1 step or more"
            )

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
        """The mean over the batch; `x` in [0, 1]."""
        lower, upper = self.box(model, x, y, generator)
        return F.cross_entropy(-margins_of(model, lower, upper, y).float(), y)

    def box(
        self, model: nn.Module, x: Tensor, y: Tensor, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """Around the image that is worst, as far as the ascent finds."""
        eps = self.share * self.eps
        if not eps:
            return x, x
        far = (1 - self.beta) * eps
        ascent = Ascent(far, self.steps, min(2.5 * far / self.steps, 1.0))
        with under_attack(model, x, generator) as (network, draws):
            start = ascent.threat.start(x, draws)
            found = ascent(network, start, x, lambda logits: cross_entropies(logits, y))
        return _cube(found, x, self.beta * eps, eps)


@torch.no_grad()
def _cube(middle: Tensor, x: Tensor, half: float, eps: float) -> tuple[Tensor, Tensor]:
    """All images within `half` of one and within eps of the other, in [0, 1]."""
    lower = torch.maximum(middle - half, x - eps).clamp(0, 1)
    return lower, torch.minimum(middle + half, x + eps).clamp(0, 1)
