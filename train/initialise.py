"""First weights of a network, drawn from an explicit generator."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Generator, nn

from spikemorph.graph.errors import InputError


def initialised(build: Callable[[], nn.Module], generator: Generator) -> nn.Module:
    """Build a network whose weights come from `generator` and from nothing else.

    The network is built without storage first, so that torch's global generator is left alone.
    Weights are Kaiming normal, the standard deviation being sqrt(2 / fan_out) for a convolution
    and sqrt(2 / fan_in) for a linear layer; biases are zero; batch norms start as the identity.
    """
    with torch.device("meta"):
        model = build()
    model.to_empty(device="cpu")
    for name, module in model.named_modules():
        _fill(name, module, generator)
    return model


@torch.no_grad()
def _fill(name: str, module: nn.Module, generator: Generator) -> None:
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
        fan: Literal["fan_in", "fan_out"] = "fan_in" if isinstance(module, nn.Linear) else "fan_out"
        nn.init.kaiming_normal_(module.weight, mode=fan, nonlinearity="relu", generator=generator)
        if module.bias is not None:
            module.bias.zero_()
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        module.reset_parameters()  # ones and zeros: no draw
    elif any(True for _ in module.parameters(recurse=False)):
        raise InputError(
            f"module {name!r} is a {type(module).__name__}, which has no first weights here; "
            "add it in train/initialise.py"
        )
