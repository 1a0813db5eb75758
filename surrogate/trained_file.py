"""A network trained through time, as a file: it can be trained on, attacked, and folded."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch

from spikemorph.graph import GraphError, InputError
from spikemorph.graph.fields import Above, filled, fitted
from spikemorph.graph.records import decode, encode
from spikemorph.graph.saving import (
    TensorStore,
    graph_from_plain,
    graph_to_plain,
    read_file,
    write_file,
)

from .by_name import name_of, surrogate_of
from .module import SpikingModule
from .neuron import Dynamics

KIND = "trained through time"


@dataclass(frozen=True)
class _File:
    """What a file of a trained network holds."""

    graph: Any
    dynamics: Any
    surrogate: str
    thresholds: dict[str, Annotated[float, Above(0)]]
    notes: dict[str, Any]


def save_trained(path: Path, module: SpikingModule, notes: Mapping[str, Any]) -> None:
    """Save weights, batch norms and thresholds as one safetensors file, with JSON `notes`.

    Raises
    ------
    InputError
        If the surrogate that it was trained by has no name, or its input range is not declared.
    """
    store = TensorStore()
    plain = {
        "graph": graph_to_plain(module.to_graph().declared(path), store),
        "dynamics": encode(module.dynamics, store),
        "surrogate": name_of(module.surrogate),
        "thresholds": {n: float(v.detach()) for n, v in module.thresholds.items()},
        "notes": dict(notes),
    }
    write_file(path, KIND, plain, store.tensors)


@torch.no_grad()
def load_trained(path: Path) -> tuple[SpikingModule, dict[str, Any]]:
    """Load a module, in evaluation mode, and its notes; see `save_trained`.

    Its gradients go by the surrogate that it was trained by; masks are in its graph.

    Raises
    ------
    InputError
        If the file is missing, damaged, changed, or holds something else.
    """
    plain, tensors = read_file(path, KIND)
    held = filled(_File, plain, str(path))
    graph = graph_from_plain(held.graph, tensors, str(path)).declared(path)
    place = f"{path}, dynamics"
    dynamics = fitted(decode(held.dynamics, tensors, place), Dynamics, place)
    try:
        module = SpikingModule(graph, dynamics, surrogate=surrogate_of(held.surrogate))
    except (InputError, GraphError) as error:
        raise InputError(f"{path}: not a trained network ({error}); train it again") from error
    if odd := sorted(set(module.thresholds) ^ set(held.thresholds)):
        raise InputError(
            f"{path}: thresholds of {odd[:8]} are missing or of no neuron; train again"
        )
    for name, value in module.thresholds.items():
        value.fill_(held.thresholds[name])
    return module.eval().requires_grad_(False), held.notes
