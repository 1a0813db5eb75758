"""Read a torch state dict without running anything that its file holds.

torch unpickles a state dict with a short list of what may be called, but it has a zip reader of its
own, and among what may be called is what takes memory without a bound. So the archive is read
strictly, its pickle may name only what makes dense tensors, and torch sees a copy of our own making.
"""

import io
import pickletools
import re
import warnings
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikemorph.graph import InputError

from . import strict_zip
from .strict_zip import OddZipError

_MEMBERS = re.compile(
    r"data\.pkl|version|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id|data/\d+"
)
_MADE = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor_v2|parameter)|torch \w+Storage"
    r"|torch\.nn\.parameter Parameter|torch Size"
)
_CALLS = ("INST", "OBJ", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4", "NEWOBJ", "NEWOBJ_EX")
_SAFER = "save the state dict as safetensors"
_PROTOCOL = 2  # of pickles that torch.save writes
_LONGEST = 2**22  # bytes of the pickle, which holds names and sizes only
_REPEATED = 2**16  # elements of a tensor that repeats what is stored
_UNDER = ("state_dict", "model_state_dict", "model", "net", "module")  # where checkpoints keep it
_SCRIPT = "is a TorchScript archive, which holds code; "
_WHOLE = "is a whole pickled module, and pickled code is never run; "
_INSTEAD = (
    "where its class is at hand, write torch.save(module.state_dict(), FILE), or export it to .pt2"
)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that ``torch.save(model.state_dict(), path)`` wrote.

    Of a training's checkpoint, which holds more, those under the one key that is called as state dicts
    are.

    Raises
    ------
    InputError
        If it is missing or damaged, of an old format, or holds anything but dense tensors.
    """
    content = strict_zip.read_bytes(path)
    if not strict_zip.is_zip(content):
        raise InputError(
            f"{path}: not a plain state dict of a recent torch, and pickled code is never run; {_SAFER}"
        )
    if _is_script(content):
        raise InputError(f"{path}: {_SCRIPT}{_INSTEAD}")
    try:
        found = strict_zip.members(content)
    except OddZipError as error:
        raise InputError(f"{path}: the archive is damaged or odd ({error}); {_SAFER}") from error
    _require_plain(path, found)
    try:
        archive = strict_zip.packed(found)
        state = torch.load(archive, map_location="cpu", weights_only=True)
    except Exception as error:  # the loader raises whatever the bytes make it raise
        raise InputError(
            f"{path}: not a plain state dict, and pickled code is never run; {_SAFER}"
        ) from error
    state = _inner(path, state)
    for name, value in state.items():
        held = value.untyped_storage().nbytes() // value.element_size()
        if value.numel() > max(held, _REPEATED):
            raise InputError(
                f"{path}: tensor {name!r} repeats {held} numbers to {tuple(value.shape)}; {_SAFER}"
            )
    return state


def fitted(state: Mapping[str, Tensor], names: Collection[str]) -> Mapping[str, Tensor]:
    """The state dict without a prefix that all its names have, if then they are a module's.

    Wrappers put one in front: ``module.`` (of several processes), ``_orig_mod.`` (compiled),
    ``model.`` (of a training's own class). Unchanged where nothing fits.
    """
    first = next(iter(state), "")
    for cut in (k + 1 for k, letter in enumerate(first) if letter == "."):
        if all(name.startswith(first[:cut]) for name in state):
            shorter = {name[cut:]: value for name, value in state.items()}
            if shorter.keys() == set(names):
                return shorter
    return state


def _inner(path: Path, state: Any) -> dict[str, Tensor]:
    """What is loaded, if that is a state dict, or the one state dict in it."""
    if _is_state(state):
        return dict(state)
    held = [key for key in _UNDER if isinstance(state, dict) and _is_state(state.get(key))]
    if len(held) != 1:
        many = f"holds several, under {', '.join(held)}" if held else "not a state dict"
        raise InputError(f"{path}: {many}; save model.state_dict() alone")
    return dict(state[held[0]])


def _is_state(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(key, str) and isinstance(tensor, Tensor) for key, tensor in value.items()
    )


def _is_script(content: bytes) -> bool:
    """Whether torch.jit.save wrote it; names alone are looked at."""
    try:
        names = zipfile.ZipFile(io.BytesIO(content)).namelist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return False
    return any(name.endswith("/constants.pkl") for name in names)


def _require_plain(path: Path, found: Mapping[str, bytes]) -> None:
    if odd := [name for name in found if not _MEMBERS.fullmatch(name)]:
        raise InputError(f"{path}: member {odd[0]!r} has no place in a state dict; {_SAFER}")
    pickled = found.get("data.pkl", b"")
    if len(pickled) > _LONGEST:
        raise InputError(f"{path}: holds more than tensors and their names; {_SAFER}")
    try:
        with warnings.catch_warnings():  # of odd texts in it; what matters is looked at here
            warnings.simplefilter("ignore")
            _require_tensors(path, pickled)
    except (ValueError, IndexError, OverflowError) as error:
        raise InputError(f"{path}: not a plain state dict ({str(error)[:60]}); {_SAFER}") from error


def _require_tensors(path: Path, pickled: bytes) -> None:
    """Refuse a pickle that names anything but what makes dense tensors."""
    protocols = set[Any]()
    for number, (code, value, _) in enumerate(pickletools.genops(io.BytesIO(pickled))):
        if code.name == "PROTO":
            protocols.add(value)
        made = code.name != "GLOBAL" or _MADE.fullmatch(str(value))
        if number == 1 and not made:  # the first thing after the protocol's number
            raise InputError(f"{path}: {_WHOLE}{_INSTEAD}")
        if code.name in _CALLS or not made:
            called = value if code.name == "GLOBAL" else code.name
            raise InputError(
                f"{path}: not a plain state dict: it names {str(called)[:60]!r}; {_SAFER}"
            )
    if odd := protocols - {_PROTOCOL}:  # torch warns of it, and reads on
        raise InputError(
            f"{path}: its pickle is of protocol {odd.pop()}, not {_PROTOCOL}; {_SAFER}"
        )
