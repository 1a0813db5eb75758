"""Steps that are learnt: of activations and of weights, positive, each at its own pace."""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from spikemorph.graph import Graph, Node, Op, Problem, UnsupportedError
from spikemorph.graph.interpret import on_reals, walk
from spikemorph.graph.nested import nested_compute, nested_nodes
from spikemorph.graph.tables import on_scales
from spikemorph.graph.traits import Weighted
from spikemorph.layers.activation import Activation
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.moving import moved
from spikemorph.layers.multiply import Multiply
from spikemorph.layers.readout import Softmax
from spikemorph.train.loop import DivergenceError

from .observe import Steps, within
from .scale_plan import plain_ratio
from .scales import Scale

_FARTHEST = math.log(1000)


class LearntStep(nn.Module):
    """A step that is learnt as ``initial * exp(theta)``: it stays above zero.

    What is rounded and what is clipped pull at it as in learned step size quantisation (Esser et al.,
    ICLR 2020). Learning the logarithm (Jain et al., MLSys 2020) makes the pace independent of a step's
    size, without a gradient scale by counts, which made 8-bit weights' steps run away here; and
    weight decay draws a step to where it began, not to zero.

    Parameters
    ----------
    initial : Tensor
        (channel,) or (1,), above zero.
    limit : float
        The step grows no larger.
    together : bool
        Whether one number is learnt for all channels, which keep their ratios.
    """

    initial: Tensor

    def __init__(self, initial: Tensor, limit: float = math.inf, *, together: bool = False) -> None:
        super().__init__()
        self.register_buffer("initial", initial.double())
        self.theta = nn.Parameter(torch.zeros(1 if together else len(initial)))
        self.limit = limit

    def forward(self) -> Tensor:
        """The step, float64, shaped like `initial`.

        Raises
        ------
        DivergenceError
            If it has moved by more than a factor of a thousand.
        """
        if not bool((self.theta.detach().abs() < _FARTHEST).all()):
            raise DivergenceError(
                "a learnt step has moved by more than a factor of a thousand: the training diverges; "
                "lower the learning rate"
            )
        return (self.initial * self.theta.double().exp()).clamp(max=self.limit)


def fitted(op: Activation, steps: Steps, unit: Scale) -> Steps:
    """The levels at another unit: none beyond what the function reaches."""
    assert steps.smax is not None
    smin, smax = within(op, steps.smin, steps.smax, unit)
    return replace(steps, smin=smin, smax=smax, unit=unit)


def limit_of(op: Activation, steps: Steps) -> float:
    """The largest step worth learning: the reach of a function that has one, where it has levels."""
    low, high = op.bounds
    if high is None:
        return math.inf
    return float(high if low is None or steps.smin == 0 else max(high, -low))


def refuse_unlearnable(graph: Graph, analog: tuple[Op, ...]) -> None:
    """Refuse a prepared graph, with its analog end, whose steps cannot be learnt.

    Raises
    ------
    UnsupportedError
        Naming every activation whose range leaves zero out, every scale and shift that was not folded,
        and a final softmax.
    """
    nodes = nested_nodes(graph)
    problems = [problem for name, node in nodes for problem in _problems(name, node)]
    if any(isinstance(op, Softmax) for op in analog):
        reason = "objectives take logits, and the graph ends in probabilities"
        problems.append(
            Problem(graph.outputs[0], "Softmax", reason, "cut the softmax off to train")
        )
    if problems:
        raise UnsupportedError(problems)


def _problems(name: str, node: Node) -> list[Problem]:
    op, kind = node.op, type(node.op).__name__
    low, high = op.bounds if isinstance(op, Activation) else (None, None)
    if (low or 0) > 0 or (high or 0) < 0:
        ends = (-math.inf if low is None else low), (math.inf if high is None else high)
        reason = "its range {:g}..{:g} leaves zero out".format(*map(float, ends))
        return [Problem(name, kind, reason, "clip to a range with zero in it")]
    if isinstance(op, ScaleShift) and not plain_ratio(op):
        reason = (
            "this scale and shift could not be folded into a layer, so its rounding is not learnt"
        )
        repair = "put batch norms right behind weighted layers, or quantise after training"
        return [Problem(name, kind, reason, repair)]
    if on_scales.get(type(op), moved) is not moved and not isinstance(op, Multiply):
        reason = "how large its sums get while steps are learnt is not known"
        return [Problem(name, kind, reason, "quantise after training")]
    return []


def loudness(graph: Graph, x: Tensor) -> dict[str, float]:
    """For every weighted node, the root mean square of its input on samples `x`, as a power of two.

    Weights are learnt multiplied by it: then neither folded norms nor the width of a sum pool changes
    how fast they learn, and nothing is rounded.
    """
    powers: dict[str, list[float]] = {}  # of those inside recurrent layers, one for every element

    def listen(name: str, node: Node, *inputs: Tensor) -> Tensor:
        if isinstance(node.op, Weighted):
            powers.setdefault(name, []).append(float(inputs[0].double().square().mean()))
        return on_reals(node, *inputs)

    with torch.no_grad():
        for _ in walk(graph, x, nested_compute(listen)):
            pass
    means = {name: sum(some) / len(some) for name, some in powers.items()}
    return {name: 2.0 ** round(math.log2(p) / 2) if p else 1.0 for name, p in means.items()}
