"""The engines by name, the fastest first: which networks each can run, and how it is made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from spikemorph.graph import InputError

from .dense import DenseEngine
from .engine import Engine, Runs
from .network import SpikingNetwork
from .reference import ReferenceEngine
from .segmented import SegmentedEngine


@dataclass(frozen=True)
class Kind:
    """One kind of engine.

    Parameters
    ----------
    lacks : callable
        ``lacks(network, device)`` says why it cannot run a network there; empty where it can.
    build : callable
        ``build(network, device, most_steps)`` makes one, for runs of at most so many steps, of a network
        without recurrence.
    """

    lacks: Callable[[SpikingNetwork, torch.device], str]
    build: Callable[[SpikingNetwork, torch.device, int], Engine]


def _only_on_the_cpu(network: SpikingNetwork, device: torch.device) -> str:
    return "" if device.type == "cpu" else f"it runs on the CPU, not on {device}"


engines: Mapping[str, Kind] = {
    "dense": Kind(lambda *_: "", DenseEngine),
    "reference": Kind(_only_on_the_cpu, lambda network, *_: ReferenceEngine(network)),
}


CPU = torch.device("cpu")


def engine_for(
    network: SpikingNetwork, device: torch.device = CPU, most_steps: int = 1024, name: str = "auto"
) -> Runs:
    """The engine of that name, or the fastest that can run the network; ready for it.

    Of a recurrent network it runs the parts.

    Raises
    ------
    InputError
        If there is none of that name, or it cannot run the network on the device.
    """
    if name != "auto" and name not in engines:
        raise InputError(f"engine {name}: choose one of auto, {', '.join(engines)}")
    kinds = engines if name == "auto" else {name: engines[name]}
    lacks = {own: kind.lacks(network, device) for own, kind in kinds.items()}
    able = [own for own, lack in lacks.items() if not lack]
    if not able:
        why = "; ".join(f"{own}: {lack}" for own, lack in lacks.items())
        raise InputError(f"engine {name} cannot run this network: {why}; choose another")
    build = engines[able[0]].build
    if network.recurrent:
        return SegmentedEngine(network, lambda part: build(part, device, most_steps))
    return build(network, device, most_steps)
