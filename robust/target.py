"""What is attacked: a network as its users run it, and the gradient paths an attacker may use."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from spikemorph.graph.brief import brief_repr

# Inputs (sample, *shape) in [0, 1], float32, to logits (sample, class), float32 or float64.
Logits = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class GradientPath:
    """One network with one backward rule.

    Parameters
    ----------
    name : str
        As in tables: ``pcw 1``, ``bptr``, ``straight-through``.
    logits : callable
        Differentiable in its input.
    exact : bool
        Whether the forward pass is the network itself, bit for bit.
    stand_in : bool
        Whether the gradient is another network's, see `through`: it knows nothing of time steps.
    begin : callable, optional
        Makes the logits for one run of an attack, where gradients go by what the run's earlier ones saw.
        They are asked about the same samples every time, in one order; `logits` remembers nothing.
    """

    name: str
    logits: Logits
    exact: bool = True
    stand_in: bool = False
    begin: Callable[[], Logits] | None = None

    __repr__ = brief_repr


@dataclass(frozen=True)
class Target:
    """A network under attack.

    Parameters
    ----------
    name : str
        Of the model.
    logits : callable
        The network as its users run it: it alone decides whether a sample is broken. It needs no
        gradient.
    paths : tuple of GradientPath
        All that gradients may be taken through, strongest first where that is known.
    mixed : callable, optional
        ``mixed(x, which)``: the logits of `x`, the gradient of sample k going by the path
        ``paths[which[k]]``; lets several paths share one batch. `which` is (sample,) int64.
    input_step : float, optional
        The distance, in [0, 1], of the inputs that the network tells apart, where it rounds them.
    """

    name: str
    logits: Logits
    paths: tuple[GradientPath, ...]
    mixed: Callable[[Tensor, Tensor], Tensor] | None = None
    input_step: float | None = None

    __repr__ = brief_repr


def through(network: Logits, stand_in: Logits) -> Logits:
    """The network's logits, bit for bit, with the gradient of a network that stands in for it.

    BPDA (Athalye, Carlini and Wagner, ICML 2018, section 4.1). Judged by the stand-in's own logits,
    attacks would spare samples that only the stand-in misclassifies.
    """

    def logits(x: Tensor) -> Tensor:
        with torch.no_grad():
            own = network(x)
        if not (torch.is_grad_enabled() and x.requires_grad):
            return own
        other = stand_in(x)
        return own + (other - other.detach())

    return logits


def by_rows(
    x: Tensor,
    which: Tensor,
    shared: Callable[[Tensor, Tensor], Tensor],
    alone: Mapping[int, Logits],
) -> Tensor:
    """Logits of a batch in which the paths in `alone` run their samples by themselves.

    All others run at once, by ``shared(x, which)``.
    """
    which = which.to(x.device)
    apart = torch.isin(which, torch.tensor(list(alone), dtype=which.dtype, device=which.device))
    together = (~apart).nonzero()[:, 0]
    parts, order = [], []
    if len(together):
        parts.append(shared(x[together], which[together]))
        order.append(together)
    for index, logits in alone.items():
        rows = (which == index).nonzero()[:, 0]
        if len(rows):
            parts.append(logits(x[rows]))
            order.append(rows)
    return torch.cat(parts)[torch.cat(order).argsort()]
