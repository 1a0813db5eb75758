"""Forged safetensors files: the header alone; or structure and tensors, under a hash that is right."""

import json
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from spikemorph.graph.saving import file_kind, read_file, write_file

from .trees import forged, json_of

_KINDS = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32),
    *(torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64),
)
_VALUES = (0, 1, -1, 2, 127, -128, 2**31, -(2**31), 2**62, float("nan"), float("inf"), 1e30, 1e-30)


def with_header(data: bytes, rng: Random) -> bytes:
    """Another header before the same bytes: places, types, shapes, and the texts within."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    texts = [key for key, text in header.get("__metadata__", {}).items() if text[:1] in "{["]
    if texts and rng.random() < 0.6:
        key = rng.choice(texts)
        inner = forged(json.loads(header["__metadata__"][key]), rng)
        header["__metadata__"][key] = json_of(inner).decode()
    else:
        header = forged(header, rng)
    text = json_of(header)
    said = len(text) if rng.random() < 0.95 else rng.choice((0, 1, len(text) + 1, 2**40, 2**63))
    return said.to_bytes(8, "little") + text + data[8 + size :]


def with_content(data: bytes, rng: Random) -> bytes:
    """Other structure or tensors, under a hash that is right."""
    with tempfile.TemporaryDirectory(
        dir="/dev/shm" if Path("/dev/shm").is_dir() else None
    ) as folder:
        path = Path(folder) / "file.safetensors"
        path.write_bytes(data)
        kind = file_kind(path)
        if kind is None:
            return save(_other_tensors(load(data), rng))
        plain, tensors = read_file(path, kind)
        if tensors and rng.random() < 0.3:
            tensors = _other_tensors(tensors, rng)
        else:
            plain = forged(plain, rng)
        write_file(path, kind, plain, tensors)
        return path.read_bytes()


def _other_tensors(tensors: dict[str, Tensor], rng: Random) -> dict[str, Tensor]:
    changed = dict(tensors)
    key = rng.choice(sorted(changed))
    how = rng.randrange(6)
    if how == 0:
        del changed[key]
    elif how == 1:
        changed[key] = changed[rng.choice(sorted(changed))].clone()
    elif how == 2:
        changed[key + rng.choice(("", "_", "\0"))] = torch.zeros(
            rng.choice(((), (0,), (1,), (3, 2)))
        )
    else:
        changed[key] = other_tensor(changed[key], rng)
    return changed


def other_tensor(tensor: Tensor, rng: Random) -> Tensor:
    """Another type, another shape, or another value somewhere."""
    how = rng.randrange(7)
    if how == 0:
        return tensor.to(rng.choice(_KINDS))
    if how == 1 and tensor.numel():
        return _reshaped(tensor, rng).contiguous().clone()
    if how == 2:
        return torch.zeros_like(tensor)
    if how == 3 and tensor.dtype is not torch.bool:
        return (tensor * rng.choice((-1, 0, 2, 1000))).to(tensor.dtype)
    changed = tensor.clone().reshape(-1)
    if len(changed):
        kind: Any = torch.iinfo if not changed.dtype.is_floating_point else torch.finfo
        value: Any = rng.choice(_VALUES)
        if changed.dtype.is_complex or changed.dtype is torch.bool:
            value = True
        elif not changed.dtype.is_floating_point:
            whole = int(value) if abs(value) < 2**63 else 0
            ends = kind(changed.dtype)
            value = rng.choice((max(ends.min, min(ends.max, whole)), ends.min, ends.max))
        place = slice(None) if rng.random() < 0.2 else rng.randrange(len(changed))
        changed[place] = value
    return changed.reshape(tensor.shape)


def _reshaped(tensor: Tensor, rng: Random) -> Tensor:
    return rng.choice(
        (
            tensor.reshape(-1),
            tensor[None],
            tensor[..., None],
            tensor[:1],
            tensor[:0],
            tensor.reshape(-1)[0],
            torch.cat([tensor.reshape(-1), tensor.reshape(-1)]),
            tensor.transpose(0, -1) if tensor.dim() > 1 else tensor,
        )
    )
