"""What a training runs on: Fabric, loaded with the first training, as that takes longer than torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from lightning_fabric import Fabric
else:
    Fabric = object

__all__ = ["Fabric", "bare", "make_fabric"]
_HOME = "lightning_fabric"


def make_fabric(**settings: Any) -> Fabric:
    """Device, precision and processes by Fabric's own names; one CPU process where they say nothing."""
    made: Fabric = import_module(_HOME).Fabric(**{"accelerator": "cpu", "devices": 1, **settings})
    return made


def bare(model: nn.Module) -> nn.Module:
    """The network without what Fabric wraps around it.

    Gradients in the input pass Fabric's own backward by, which a wrapped network would refuse, and
    need no exchange between processes. The loop's arithmetic (bf16) surrounds an objective already.
    """
    inner = model.module if import_module(_HOME).is_wrapped(model) else model
    assert isinstance(inner, nn.Module)
    return inner
