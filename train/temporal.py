"""Teach states to stay as they are: what does not change between elements costs a stream nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from spikemorph.graph.errors import InputError

from .objectives import Objective


class Elements(nn.Module):
    """Where states pass: it changes nothing; `axis` has the elements, `unit` is a step of the states."""

    def __init__(self, axis: int = 1, unit: float = 1.0) -> None:
        super().__init__()
        self.axis, self.unit = axis, unit

    def forward(self, x: Tensor) -> Tensor:
        return x


@dataclass(frozen=True)
class TemporalSparsity:
    """An objective, and ``weight mean |h_n - h_(n-1)| / unit`` over all states h of a network.

    The mean is over samples, states and elements, the first one counted from zero; of several layers
    it is the sum. They are those of torch's recurrent layers, and what passes `Elements`. Where the
    objective runs the network more than once, its last run counts.

    Raises
    ------
    InputError
        If the weight is below zero or not finite; when called, if the network has no states.
    """

    objective: Objective
    weight: float

    def __post_init__(self) -> None:
        if not 0 <= self.weight < float("inf"):
            raise InputError(f"temporal sparsity {self.weight}: give a weight of 0 or more")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
        """The loss of one batch."""
        with heard_states(model) as states:
            loss = self.objective(model, x, y, generator)
        if not states:
            raise InputError("temporal sparsity: the network has no recurrent layer; leave it out")
        return loss + self.weight * sum(changes(*state) for state in states.values())


def changes(states: Tensor, axis: int, unit: float) -> Tensor:
    """The mean of ``|h_n - h_(n-1)| / unit`` along an axis, h starting from zero."""
    first = torch.zeros_like(states.narrow(axis, 0, 1))
    return states.diff(dim=axis, prepend=first).abs().mean() / unit


@contextmanager
def heard_states(model: nn.Module) -> Iterator[dict[str, tuple[Tensor, int, float]]]:
    """The states of every layer that has them, its axis of elements and its unit, as last computed."""
    found: dict[str, tuple[Tensor, int, float]] = {}
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.RNNBase | Elements):
            handles.append(module.register_forward_hook(_listener(name, found)))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _listener(name: str, found: dict[str, tuple[Tensor, int, float]]) -> Any:
    def listen(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        if isinstance(module, Elements):
            found[name] = output, module.axis, module.unit
        else:
            found[name] = output[0], int(bool(module.batch_first)), 1.0

    return listen
