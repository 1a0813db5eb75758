"""Safetensors files: one reader of their header decides, and the library sees what it saw."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from .errors import InputError
from .fields import filled, fitted
from .plain import Plain, read_plain

_LONGEST = 100_000_000  # bytes of a header, as the library has it


@dataclass(frozen=True)
class _Entry:
    """What the header says of one tensor."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


@dataclass(frozen=True)
class Content:
    """A file's header, and the bytes of its tensors behind it."""

    entries: Mapping[str, Plain]
    texts: dict[str, str]
    body: bytes
    header_bytes: int

    def tensors(self, where: object) -> dict[str, Tensor]:
        """The tensors by key: the library is given a header made of what was read.

        Raises
        ------
        InputError
            If an entry does not fit its bytes; `where` names the file.
        """
        try:
            return load(_joined(dict(self.entries), self.body))
        except (SafetensorError, ValueError, RuntimeError, KeyError) as error:
            raise InputError(f"{where}: not a readable safetensors file ({error})") from error


def read_content(path: Path) -> Content:
    """Read a safetensors file once.

    Raises
    ------
    InputError
        If it is missing or none; if a key is there twice, or a byte belongs to no tensor or to two.
    """
    return content_of(read_bytes(path), path)


def read_bytes(path: Path) -> bytes:
    """A file's bytes, read once, so that all that is checked is what is used.

    Raises
    ------
    InputError
        If it is missing or cannot be read.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def content_of(content: bytes, where: object) -> Content:
    """As `read_content`, from the file's bytes."""
    end = 8 + int.from_bytes(content[:8], "little")
    if len(content) < 8 or end > min(len(content), _LONGEST):
        raise InputError(f"{where}: not a readable safetensors file (its header is cut off)")
    try:
        header = fitted(read_plain(content[8:end], where), dict[str, Any], str(where))
        texts = fitted(header.pop("__metadata__", {}), dict[str, Any], f"{where}: __metadata__")
        if not all(isinstance(text, str) for text in texts.values()):
            raise InputError(f"{where}: __metadata__ holds more than texts")
        entries = [
            filled(_Entry, entry, f"{where}: {ascii(key)[:60]}") for key, entry in header.items()
        ]
    except InputError as error:
        raise InputError(f"{where}: not a readable safetensors file ({error})") from error
    place = 0
    for begin, stop in sorted(entry.data_offsets for entry in entries):
        if begin != place or stop < begin:
            raise InputError(
                f"{where}: not a readable safetensors file (its tensors overlap, or leave a hole)"
            )
        place = stop
    if place != len(content) - end:
        raise InputError(f"{where}: not a readable safetensors file (bytes belong to no tensor)")
    return Content(header, texts, content[end:], end)


def ordered(content: bytes) -> bytes:
    """A safetensors file with sorted header: saving leaves its order to chance, so bytes differed."""
    end = 8 + int.from_bytes(content[:8], "little")
    return _joined(json.loads(content[8:end]), content[end:])


def _joined(header: dict[str, Plain], body: bytes) -> bytes:
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body
