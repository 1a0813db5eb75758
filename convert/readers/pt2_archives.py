"""Give torch an exported program of our own making, of what was checked in a .pt2 archive.

``torch.export.load`` unpickles, evaluates, executes and imports what an archive tells it to, and it
has a zip reader of its own. So the file is read once, strictly (`strict_zip`); its description is
written again from what was checked (`pt2_programs`); stored tensors must lie within their bytes;
and torch sees only an archive that is made of these, in memory. Sample inputs are left out.
"""

import io
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch._export.serde.serialize import deserialize_scalar_type

from spikemorph.graph import InputError
from spikemorph.graph.errors import Repair

from . import strict_zip
from .pt2_programs import OddProgramError, payloads, program
from .strict_zip import OddZipError

_MODEL = "models/model.json"
_SAMPLES = "data/sample_inputs/model.pt"
_STORES = {  # where stored tensors are listed, and where they lie
    "data/weights/model_weights_config.json": "data/weights/",
    "data/constants/model_constants_config.json": "data/constants/",
}
_MADE = {  # what torch's reader asks for beside these
    "archive_format": b"pt2", "archive_version": b"0", "byteorder": b"little",
    ".data/version": b"6\n", _SAMPLES: b"",
}  # fmt: skip
_SAME = ("archive_format", "archive_version", "byteorder")  # as torch writes them today
_BESIDE = re.compile(
    r"archive_format|archive_version|byteorder|version|\.data/(version|serialization_id)"
    r"|\.format_version|\.storage_alignment|data/weights/weight_\d+|data/constants/tensor_\d+"
)
_MOST = 2**16  # elements of a tensor that repeats what is stored


def plain_archive(path: Path) -> io.BytesIO:
    """An archive that torch can load without running anything that the file holds.

    Raises
    ------
    InputError
        If the file is missing or damaged, or holds what could only be loaded by running it.
    """
    content = strict_zip.read_bytes(path)
    if not strict_zip.is_zip(content):
        raise InputError(f"{path}: not a .pt2 archive; write it with torch.export.save")
    try:
        found = strict_zip.members(content)
    except OddZipError as error:
        raise InputError(
            f"{path}: the archive is damaged or odd ({error}); write it with torch.export.save"
        ) from error
    _require_known(path, found)
    made = dict(_MADE)
    for name in (_MODEL, *_STORES):
        try:
            made[name] = program(found[name]) if name == _MODEL else _store(found, name, made)
        except (OddProgramError, RecursionError) as error:
            raise InputError(f"{path}: member {name!r} {error}; export it again") from error
    return strict_zip.packed(made)


def _require_known(path: Path, found: Mapping[str, bytes]) -> None:
    if "data.pkl" in found:
        raise InputError(
            f"{path}: this is a pickled checkpoint, which is never loaded; give the code as "
            "package.module:factory",
            Repair("weights", words="and the weights as safetensors: {}"),
        )
    for name in found:
        if name not in (_MODEL, _SAMPLES, *_STORES) and not _BESIDE.fullmatch(name):
            raise InputError(
                f"{path}: member {name!r} has no place in an exported program; "
                "write it with torch.export.save of a recent torch"
            )
    for name in _SAME:
        if found.get(name, _MADE[name]).strip() != _MADE[name]:
            raise InputError(
                f"{path}: member {name!r} is {found[name][:20]!r}, {_MADE[name]!r} is read; "
                "export it again with a recent torch"
            )
    if missing := [name for name in (_MODEL, *_STORES) if name not in found]:
        raise InputError(
            f"{path}: holds no member {missing[0]!r}; write it with torch.export.save of a recent torch"
        )


def _store(found: Mapping[str, bytes], listing: str, made: dict[str, bytes]) -> bytes:
    """A list of stored tensors, written again; the bytes of each go to `made`."""
    text, config = payloads(found[listing])
    for tensor, payload in config.items():
        name = _STORES[listing] + payload["path_name"]
        if name not in found:
            raise OddProgramError(f"names {name!r}, which is not there")
        if payload["tensor_meta"] is None:
            raise OddProgramError(f"does not say what tensor {tensor!r} is")
        _require_within(tensor, payload["tensor_meta"], len(found[name]))
        made[name] = found[name]
    return text


def _require_within(tensor: str, meta: Mapping[str, Any], stored: int) -> None:
    """Refuse a tensor that reaches beyond its bytes, or is far larger than they are."""
    sizes, strides = ([n.get("as_int") for n in meta[key]] for key in ("sizes", "strides"))
    offset = meta["storage_offset"].get("as_int")
    numbers = [*sizes, *strides, offset]
    if len(sizes) != len(strides) or not all(isinstance(n, int) and n >= 0 for n in numbers):
        raise OddProgramError(f"gives tensor {tensor!r} odd sizes {json.dumps(meta['sizes'])[:60]}")
    if meta["layout"] != 7 or meta["dtype"] == 0:
        raise OddProgramError(f"holds tensor {tensor!r} in a form that is not dense")
    width = torch.empty(0, dtype=deserialize_scalar_type(meta["dtype"])).element_size()
    count = math.prod(sizes)
    reach = offset + 1 + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True))
    if (count and reach * width > stored) or stored % width:
        raise OddProgramError(f"has tensor {tensor!r} of sizes {sizes} in {stored} bytes")
    if count > max(stored // width, _MOST):
        raise OddProgramError(f"repeats {stored} bytes in tensor {tensor!r} of sizes {sizes}")
