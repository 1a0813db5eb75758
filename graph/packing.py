"""Tensors of a file in their smallest form: what is stored, what the header says of it, and back.

A tensor is stored in the smallest of four formats (`packing_codecs`), its values at the width that
they need; whether a value is zero is decided by its bits, so floats keep negative zeros and NaNs. A
bool tensor is told relative to the last tensor of its shape before it where that is smaller: a mask
then is where it differs from "the weight is not zero". What gains nothing stays a plain tensor.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch
from torch import Tensor

from .errors import InputError
from .packing_bits import Words, sign_extended, width
from .packing_codecs import Layout, decode, encode, layouts_for, places_of, smallest
from .plain import Plain

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_WHOLE = (torch.int8, torch.int16, torch.int32, torch.int64)
_POSITIVE = (torch.uint8, torch.uint16, torch.uint32, torch.uint64)
_KINDS = {str(t).removeprefix("torch."): t for t in (torch.bool, *_WHOLE, *_POSITIVE, *_FLOATS)}
_FREE, _EXPANSION = 1 << 16, 1024  # a stored byte makes so many at most, beyond the free ones
_TOTAL, _TOTAL_EXPANSION = 1 << 28, 64  # the same for all tensors of a file together


@dataclass(frozen=True)
class Packing:
    """How one tensor of a file is packed: its layout, its type, and what a mask is relative to."""

    layout: Layout
    kind: str
    signed: bool
    relative_to: str | None = None

    @property
    def unpacked_bytes(self) -> int:
        """Bytes of the tensor in memory."""
        return prod(self.layout.shape) * _KINDS[self.kind].itemsize

    @property
    def byte_count(self) -> int:
        """Bytes stored: the layout's, and as many zeros as keep the expansion within bounds.

        So a forged header of a small file cannot make its reader allocate much.
        """
        return max(self.layout.byte_count, -(-(self.unpacked_bytes - _FREE) // _EXPANSION))

    def to_plain(self) -> Plain:
        """The entry of the file's header."""
        layout = self.layout
        entry = {
            "format": layout.format,
            "dtype": self.kind,
            "shape": list(layout.shape),
            "value_bits": layout.value_bits,
            "signed": self.signed,
            "stored": layout.stored,
            "bits": layout.bits,
        }
        return entry if self.relative_to is None else {**entry, "relative_to": self.relative_to}

    @classmethod
    def from_plain(cls, plain: Plain) -> "Packing":
        """Read a header's entry; ValueError where it describes nothing that was ever written."""
        match plain:
            case {"format": "dense" | "bitmask" | "csr" | "delta" as name, "dtype": str(kind),
                  "shape": list(shape), "value_bits": int(width), "signed": bool(signed),
                  "stored": int(stored), "bits": int(bits), **rest}:  # fmt: skip
                pass
            case _:
                raise ValueError("its header entry is incomplete")
        numbers = [*shape, width, stored, bits]
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError("its header entry holds an impossible number")
        layout = Layout(name, tuple(shape), width, stored, bits - stored * width)
        base = rest.pop("relative_to", None)
        packing = cls(layout, kind, signed, None if base is None else str(base))
        if rest or kind not in _KINDS or not packing._fits():
            raise ValueError("its header entry contradicts itself")
        return packing

    def _fits(self) -> bool:
        layout = self.layout
        widest = 1 if self.kind == "bool" else 8 * _KINDS[self.kind].itemsize
        whole = len(layout.shape) <= 64 and 0 < prod(layout.shape) < 2**48
        return whole and int(self.signed) <= layout.value_bits <= widest and layout.consistent


def pack(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Plain]]:
    """The tensors as they are stored, and the header entries of those that are packed.

    Returns
    -------
    stored : dict
        By the same keys: one axis of bytes for a packed tensor, else the tensor itself.
    header : dict
        For the packed ones alone, for `unpack`.
    """
    stored, header = {}, {}
    for key, tensor, packing in _packings(tensors):
        if packing is None:
            stored[key] = tensor.detach().cpu().contiguous().clone()
        else:
            base = packing.relative_to
            content = tensor if base is None else _difference(tensor, tensors[base])
            stored[key] = pack_tensor(content, packing)
            header[key] = packing.to_plain()
    return stored, header


def unpack(stored: Mapping[str, Tensor], header: Plain, where: str) -> dict[str, Tensor]:
    """What `pack` was given.

    Raises
    ------
    InputError
        If the header or a tensor's bytes were not written by `pack`; `where` names the file.
    """
    if not isinstance(header, dict) or not header.keys() <= stored.keys():
        raise InputError(
            f"{where}: it packs tensors that it does not hold; convert the model again"
        )
    tensors = {key: tensor for key, tensor in stored.items() if key not in header}
    relative: dict[str, str] = {}
    budget = _TOTAL + _TOTAL_EXPANSION * sum(t.numel() * t.element_size() for t in stored.values())
    for key, entry in header.items():
        try:
            packing = Packing.from_plain(entry)
            budget -= packing.unpacked_bytes
            if budget < 0:
                raise ValueError("all tensors together unfold to more than such a file may hold")
            tensors[key] = unpack_tensor(packing, stored[key])
            if packing.relative_to is not None:
                relative[key] = packing.relative_to
        except ValueError as error:
            raise _damaged(where, key, str(error)) from error
    for key, base in relative.items():
        if base in relative or not _is_base(tensors.get(base), tensors[key]):
            raise _damaged(where, key, f"it is relative to {base!r}, which has not its shape")
        tensors[key] = tensors[key] ^ _nonzero(tensors[base])
    return tensors


def layouts(tensors: Mapping[str, Tensor]) -> dict[str, Layout]:
    """How `pack` stores every tensor, without doing it."""
    return {
        key: plain_layout(tensor) if packing is None else packing.layout
        for key, tensor, packing in _packings(tensors)
    }


def plain_layout(tensor: Tensor) -> Layout:
    """The layout of a tensor that is not packed: every value at the width of its type."""
    return Layout("dense", tuple(tensor.shape), 8 * tensor.element_size(), tensor.numel(), 0)


def formats(tensor: Tensor) -> dict[str, Layout]:
    """The layout that each format gives a tensor, its values at the width that they need.

    Raises
    ------
    InputError
        If it is of a number type that is never packed.
    """
    if str(tensor.dtype).removeprefix("torch.") not in _KINDS:
        raise InputError(f"a tensor of {tensor.dtype} cannot be packed; convert it to float32")
    words = _words(tensor)
    bits, _ = _width(words, tensor.dtype)
    ones = tensor.dtype is torch.bool
    return layouts_for(tuple(tensor.shape), places_of(words), bits, ones=ones)


def packing_of(tensor: Tensor, format: str | None = None) -> Packing:
    """How to pack a tensor of at least one value, in the given format or in the smallest."""
    found = formats(tensor)
    _, signed = _width(_words(tensor), tensor.dtype)
    layout = smallest(found) if format is None else found[format]
    return Packing(layout, str(tensor.dtype).removeprefix("torch."), signed)


def pack_tensor(tensor: Tensor, packing: Packing) -> Tensor:
    """The tensor's content as (byte,) uint8; for a relative packing, give the difference."""
    content = encode(packing.layout, _words(tensor))
    return torch.from_numpy(np.pad(content, (0, packing.byte_count - len(content))))


def unpack_tensor(packing: Packing, stored: Tensor) -> Tensor:
    """What `pack_tensor` was given. ValueError where the bytes are not of this packing."""
    if stored.dtype is not torch.uint8 or tuple(stored.shape) != (packing.byte_count,):
        raise ValueError(f"{packing.byte_count} bytes are announced, {stored.numel()} are there")
    kind, layout = _KINDS[packing.kind], packing.layout
    words = decode(layout, stored.numpy(), kind.itemsize)
    if packing.signed:
        words = sign_extended(words, layout.value_bits)
    return torch.from_numpy(words.view(np.uint8)).view(kind).reshape(layout.shape)


def _packings(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor, Packing | None]]:
    """Every tensor with how it is packed; None where a plain tensor is smaller, header included."""
    bases: dict[torch.Size, str] = {}
    for key, tensor in tensors.items():
        if not _packable(tensor):
            yield key, tensor, None
            continue
        packing = packing_of(tensor)
        if tensor.dtype is not torch.bool:
            bases[tensor.shape] = key
        elif tensor.shape in bases:
            base = bases[tensor.shape]
            rest = replace(packing_of(_difference(tensor, tensors[base])), relative_to=base)
            packing = min(packing, rest, key=lambda choice: choice.layout.bits)
        entry = len(json.dumps({key: packing.to_plain()}, separators=(",", ":")))
        gains = packing.byte_count + entry < tensor.numel() * tensor.element_size()
        yield key, tensor, packing if gains else None


def _packable(tensor: Tensor) -> bool:
    known = str(tensor.dtype).removeprefix("torch.") in _KINDS
    if not known or not tensor.numel() or tensor.dim() > 64:
        return False
    return tensor.dtype is not torch.bool or int(_words(tensor).max()) <= 1


def _difference(mask: Tensor, base: Tensor) -> Tensor:
    """Where a mask is not what the values of `base` say."""
    return mask.detach().cpu() ^ _nonzero(base)


def _nonzero(tensor: Tensor) -> Tensor:
    """Where a tensor's value is not zero; a negative zero is one."""
    words = _words(tensor)
    if tensor.dtype in _FLOATS:
        words = words << words.dtype.type(1)  # without the sign
    return torch.from_numpy(words != 0).reshape(tensor.shape)


def _is_base(base: Tensor | None, mask: Tensor) -> bool:
    return (
        base is not None
        and base.shape == mask.shape
        and str(base.dtype).removeprefix("torch.") in _KINDS
        and base.dtype is not torch.bool
        and mask.dtype is torch.bool
    )


def _words(tensor: Tensor) -> Words:
    """The bit patterns of a tensor's values, flat."""
    flat = tensor.detach().cpu().reshape(-1).clone(memory_format=torch.contiguous_format)
    words: Words = flat.view(torch.uint8).numpy().view(f"<u{tensor.element_size()}")
    return words


def _width(words: Words, kind: torch.dtype) -> tuple[int, bool]:
    """Bits that the values need, and whether one is a sign. Floats keep all their bits."""
    if kind in _FLOATS:
        return 8 * kind.itemsize, False
    values = words.view(f"<i{kind.itemsize}") if kind in _WHOLE else words
    return width(int(values.min()), int(values.max())) if len(values) else (0, False)


def _damaged(where: str, key: str, reason: str) -> InputError:
    return InputError(
        f"{where}: tensor {key!r} is damaged or was changed ({reason}), so its hash does not match; "
        "convert the model again"
    )
