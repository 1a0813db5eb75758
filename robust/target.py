"""What is attacked: a network as its users run it, and the gradient paths an attacker may use."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

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
        Whether the forward pass is the network itself, bit for bit (all but replacements by ReLU).
    """

    name: str
    logits: Logits
    exact: bool = True


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
    """

    name: str
    logits: Logits
    paths: tuple[GradientPath, ...]
    mixed: Callable[[Tensor, Tensor], Tensor] | None = None
