"""First weights of a network, drawn from an explicit generator."""

import math
from collections.abc import Callable
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Generator, nn

from spikemorph.graph.errors import InputError


@runtime_checkable
class Begins(Protocol):
    """A module that knows its own first values."""

    def begin(self, generator: Generator) -> None:
        """Set what the module itself holds; what it draws, from `generator`."""
        ...


def initialised(build: Callable[[], nn.Module], generator: Generator) -> nn.Module:
    """Build a network whose weights come from `generator` and from nothing else.

    The network is built without storage first, so that torch's global generator is left alone.
    Weights are Kaiming normal, the standard deviation being sqrt(2 / fan_out) for a convolution
    and sqrt(2 / fan_in) for a linear layer; biases are zero; batch norms start as the identity.
    Recurrent layers are uniform within 1 / sqrt(states), as torch has them, but what an LSTM keeps,
    which starts with a bias of one. A module that `Begins` sets itself.
    """
    with torch.device("meta"):
        model = build()
    model.to_empty(device="cpu")
    for name, module in model.named_modules():
        _fill(name, module, generator)
    return model


@torch.no_grad()
def _fill(name: str, module: nn.Module, generator: Generator) -> None:
    if isinstance(module, Begins):
        module.begin(generator)
    elif isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
        fan: Literal["fan_in", "fan_out"] = "fan_in" if isinstance(module, nn.Linear) else "fan_out"
        nn.init.kaiming_normal_(module.weight, mode=fan, nonlinearity="relu", generator=generator)
        if module.bias is not None:
            module.bias.zero_()
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        module.reset_parameters()  # ones and zeros: no draw
    elif isinstance(module, nn.RNNBase):
        _fill_recurrent(module, generator)
    elif any(True for _ in module.parameters(recurse=False)):
        raise InputError(
            f"module {name!r} is a {type(module).__name__}, which has no first weights here; "
            "add it in train/initialise.py"
        )


def _fill_recurrent(module: nn.RNNBase, generator: Generator) -> None:
    most, states = 1 / math.sqrt(module.hidden_size), module.hidden_size
    for name, parameter in module.named_parameters():
        parameter.uniform_(-most, most, generator=generator)
        if isinstance(module, nn.LSTM) and name.startswith("bias_ih"):
            parameter[states : 2 * states] = 1.0  # else memory fades before it is of use
