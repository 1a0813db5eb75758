"""A training run on disk: written whole or not at all, read without executing anything."""

import io
from pathlib import Path
from typing import Any

import torch

from spikemorph.graph.errors import InputError
from spikemorph.graph.saving import write_bytes

State = dict[str, Any]  # torch's state dicts are untyped


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


def load_checkpoint(path: Path) -> State:
    """Read tensors and plain values only; anything else in the file is refused."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  damaged bytes fail in any way
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"checkpoint {path}: cannot be read ({reason}); delete it to start over"
        ) from error
    if not isinstance(state, dict) or "identity" not in state:
        raise InputError(f"checkpoint {path}: not a training run; delete it to start over")
    return state
