"""What several test files draw and check in the same way."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spikemorph.graph.saving import read_file, write_file


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal float32 numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def refused(found: tuple[int, str, str], *words: str, status: int = 2) -> None:
    """A command ended with that exit status and one line of error, with these words in it."""
    assert found[0] == status, found
    assert len(found[2].strip().splitlines()) == 1, found[2]
    for word in words:
        assert word in found[2], found[2]


def forged(path: Path, kind: str, change: Callable[[Any, dict[str, Tensor]], object]) -> Path:
    """A file beside `path` whose structure and tensors `change` was given, with a right hash."""
    plain, tensors = read_file(path, kind)
    change(plain, tensors)
    other = path.with_name(f"forged.{path.name}")
    write_file(other, kind, plain, tensors)
    return other


def parts(path: Path) -> tuple[dict[str, Any], bytes]:
    """A safetensors file's header and its tensors' bytes."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def put(path: Path, header: dict[str, Any], rest: bytes) -> None:
    """Write a safetensors file of such parts."""
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + rest)


def assert_same(one: nn.Module, other: nn.Module) -> None:
    """Every weight and every buffer, bit for bit."""
    left, right = one.state_dict(), other.state_dict()
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert torch.equal(value, right[name]), name
