"""Read a torch state dict without running anything that its file holds.

torch unpickles a state dict with a short list of what may be called, but it has a zip reader of its
own, and among what may be called is what takes memory without a bound. So the archive is read
strictly, its pickle may name only what makes dense tensors, and torch sees a copy of our own making.
"""

import io
import pickletools
import re
from collections.abc import Mapping
from pathlib import Path

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
_LONGEST = 2**22  # bytes of the pickle, which holds names and sizes only
_REPEATED = 2**16  # elements of a tensor that repeats what is stored


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that ``torch.save(model.state_dict(), path)`` wrote.

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
    named = isinstance(state, dict) and all(isinstance(key, str) for key in state)
    if not named or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path}: not a state dict; save model.state_dict()")
    for name, value in state.items():
        held = value.untyped_storage().nbytes() // value.element_size()
        if value.numel() > max(held, _REPEATED):
            raise InputError(
                f"{path}: tensor {name!r} repeats {held} numbers to {tuple(value.shape)}; {_SAFER}"
            )
    return dict(state)


def _require_plain(path: Path, found: Mapping[str, bytes]) -> None:
    if odd := [name for name in found if not _MEMBERS.fullmatch(name)]:
        raise InputError(f"{path}: member {odd[0]!r} has no place in a state dict; {_SAFER}")
    pickled = found.get("data.pkl", b"")
    if len(pickled) > _LONGEST:
        raise InputError(f"{path}: holds more than tensors and their names; {_SAFER}")
    try:
        for code, value, _ in pickletools.genops(io.BytesIO(pickled)):
            made = code.name != "GLOBAL" or _MADE.fullmatch(str(value))
            if code.name in _CALLS or not made:
                called = value if code.name == "GLOBAL" else code.name
                raise InputError(
                    f"{path}: not a plain state dict: it names {str(called)[:60]!r}; {_SAFER}"
                )
    except (ValueError, IndexError, OverflowError) as error:
        raise InputError(f"{path}: not a plain state dict ({str(error)[:60]}); {_SAFER}") from error
