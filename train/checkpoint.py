"""A training run on disk: written whole or not at all, read without executing anything."""

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from spikemorph.graph.errors import InputError
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
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_bytes(path, buffer.getvalue())


def load_checkpoint(path: Path, needed: tuple[str, ...] = ("identity",)) -> State:
    """Read tensors and plain values only; anything else in the file is refused.

    Raises
    ------
    InputError
        If the file is damaged, a part that is `needed` is not there, or a part is of another kind.
    """
    try:
        with warnings.catch_warnings():  # of what else a file may hold; it is refused below
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:  # torch's own words advise to unpickle it all the same
        raise InputError(
            f"checkpoint {path}: cannot be read (it holds something else than tensors and plain "
            "values); delete it to start over"
        ) from error
    except Exception as error:  # noqa: BLE001  damaged bytes fail in any way
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"checkpoint {path}: cannot be read ({reason}); delete it to start over"
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
