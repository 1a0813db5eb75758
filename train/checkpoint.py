"""A training run on disk: written whole or not at all, and plain data: nothing in it can be run."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor
from torch.optim import Optimizer

from spikemorph.graph.containers import read_content
from spikemorph.graph.errors import InputError
from spikemorph.graph.plain import Plain, read_plain
from spikemorph.graph.saving import write_bytes

State = dict[str, Any]  # torch's state dicts are untyped
_PARTS: Mapping[str, type] = {
    "identity": dict,
    "model": dict,
    "optimizer": dict,
    "generator": Tensor,
    "records": list,
    "companions": list,
    "ended": bool,
    "scores": list,
}
_STATE = "state"  # the text of a file's header that says how its tensors are nested
RUN = ("identity", "model", "optimizer", "generator", "records")  # what a run goes on from


def is_begun(path: Path | None) -> bool:
    """Whether there is a run to take up; a path that could never be written is refused."""
    if path is None:
        return False
    if not path.parent.is_dir():
        raise InputError(f"checkpoint {path}: {path.parent}: no such folder; make it first")
    return path.exists()


def save_checkpoint(state: State, path: Path) -> None:
    """Replace the file at `path`; a stopped or failed write leaves the last one intact."""
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_plain(state, tensors))
    write_bytes(path, save(tensors, metadata={_STATE: text}))


def load_checkpoint(path: Path, needed: tuple[str, ...] = ("identity",)) -> State:
    """Read tensors and plain values: a safetensors file, whose header says how they are nested.

    Raises
    ------
    InputError
        If the file is damaged, a part that is `needed` is not there, or a part is of another kind.
    """
    try:
        content = read_content(path)
        plain = read_plain(content.texts.get(_STATE, "null"), f"{path}: its state")
        state = _state(plain, content.tensors(path))
    except InputError as error:
        raise InputError(
            f"checkpoint {path}: cannot be read ({error}); delete it to start over"
        ) from error
    if not isinstance(state, dict) or "identity" not in state:
        raise InputError(f"checkpoint {path}: not a training run; delete it to start over")
    for name, kind in _PARTS.items():
        if not isinstance(state.get(name), kind) and (name in state or name in needed):
            raise InputError(
                f"checkpoint {path}: {name} is damaged or missing; delete it to start over"
            )
    return state


def alike(found: object, wanted: Mapping[str, Any]) -> bool:
    """Whether a state has the entries of another one, its tensors of their types and shapes."""
    return (
        isinstance(found, Mapping)
        and found.keys() == wanted.keys()
        and all(_alike(found[name], value) for name, value in wanted.items())
    )


def momenta(found: State, optimizer: Optimizer) -> State:
    """The optimizer's own state with the momenta of a stored one; its settings are not taken from it.

    Raises
    ------
    ValueError
        If they are not of its parameters.
    """
    own = optimizer.state_dict()
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    kept = found.get("state")
    if not isinstance(kept, dict):
        raise ValueError("it holds no momenta")
    for number, entry in kept.items():
        if type(number) is not int or not 0 <= number < len(parameters):
            raise ValueError(f"it holds the momentum of parameter {number!r:.40}")
        if not isinstance(entry, dict) or set(entry) != {"momentum_buffer"}:
            raise ValueError(f"its state of parameter {number} is none of this optimizer")
        momentum = entry["momentum_buffer"]
        if momentum is not None and not _alike(momentum, parameters[number].detach()):
            raise ValueError(f"its momentum of parameter {number} does not fit")
    return {**own, "state": kept}


def _alike(found: object, wanted: object) -> bool:
    if not isinstance(wanted, Tensor):
        return type(found) is type(wanted)
    if not isinstance(found, Tensor) or found.layout is not torch.strided:
        return False
    return (found.dtype, found.shape) == (wanted.dtype, wanted.shape)


def _plain(value: Any, tensors: dict[str, Tensor]) -> Plain:
    """A nested state as JSON; its tensors go to `tensors`, and are named where they stood.

    Lists, tables and tuples become ``[kind, ...]``, since tables have numbers for keys, too.
    """
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()  # tied ones share no bytes there
        return ["tensor", name]
    if isinstance(value, Mapping):
        return ["table", *([key, _plain(held, tensors)] for key, held in value.items())]
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return [kind, *(_plain(held, tensors) for held in value)]
    if isinstance(value, float) and not math.isfinite(value):
        return ["float", str(value)]
    if value is not None and not isinstance(value, bool | int | float | str):
        raise TypeError(f"a checkpoint holds no {type(value).__name__}")
    return value


def _state(plain: Plain, tensors: Mapping[str, Tensor]) -> Any:
    """What `_plain` made JSON of."""
    if not isinstance(plain, list):
        if isinstance(plain, dict):
            raise InputError("its state is of another form")
        return plain
    kind, *held = plain or [None]
    if kind == "tensor" and len(held) == 1 and isinstance(held[0], str) and held[0] in tensors:
        return tensors[held[0]]
    if kind == "float" and held in (["nan"], ["inf"], ["-inf"]):
        return float(held[0])
    if kind == "table" and all(_is_entry(entry) for entry in held):
        return {key: _state(value, tensors) for key, value in held}
    if kind in ("list", "tuple"):
        found = [_state(value, tensors) for value in held]
        return found if kind == "list" else tuple(found)
    raise InputError(f"its state is of another form at {ascii(plain)[:40]}")


def _is_entry(entry: Plain) -> bool:
    return isinstance(entry, list) and len(entry) == 2 and type(entry[0]) in (str, int)
