"""What is done in blocks on disk: spread over processes and machines, and taken up after a kill.

Every block is a file, in a folder that is named after all that the result depends on. Processes
take every n-th block and pass over those that are there; whoever comes when all are there merges
them. A shared folder is all that machines need: they run the same command.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.graph.errors import Repair
from spikemorph.graph.fields import filled
from spikemorph.graph.plain import Plain
from spikemorph.graph.saving import made_folder, read_file, write_bytes, write_file
from spikemorph.train.processes import Processes

Found = TypeVar("Found")
BlockOf = TypeVar("BlockOf")
_IDENTITY = "identity.json"


class InBlocks(Generic[Found]):
    """Something that is found block by block, each of which can be kept as a file.

    ``network`` is what identifies the network that it is about, steps and neurons included; ``x`` are
    its samples, of which a block has ``block``.
    """

    network: str
    x: Tensor
    block: int

    @property
    def name(self) -> str:
        """What the network is called."""
        raise NotImplementedError

    @property
    def identity(self) -> dict[str, Plain]:
        """All that the result depends on, as plain JSON."""
        raise NotImplementedError

    @property
    def blocks(self) -> int:
        """How many there are."""
        return -(-len(self.x) // self.block)

    def rows(self, number: int) -> slice:
        """The samples of a block."""
        return slice(number * self.block, min((number + 1) * self.block, len(self.x)))

    @cached_property
    def key(self) -> str:
        """A name for `identity`: 16 digits of its SHA-256."""
        text = json.dumps(self.identity, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def run(self, number: int, watch: Callable[[float], None] | None = None) -> Found:
        """One block; `watch` is told what share of it is done."""
        raise NotImplementedError

    def merged(self, found: Sequence[Found]) -> Found:
        """All blocks, in order, as one."""
        raise NotImplementedError

    def write(self, path: Path, number: int, found: Found) -> None:
        """Keep one block."""
        raise NotImplementedError

    def read(self, path: Path, number: int) -> Found:
        """A block that `write` kept.

        Raises
        ------
        InputError
            If it is damaged, or not that block of this evaluation.
        """
        raise NotImplementedError


def write_block(
    path: Path,
    kind: str,
    evaluation: InBlocks[Found],
    number: int,
    plain: Mapping[str, Plain],
    tensors: Mapping[str, Tensor],
) -> None:
    """A block's file, which says what it is a block of."""
    own: dict[str, Any] = {"key": evaluation.key, "number": number, **plain}
    write_file(path, kind, own, dict(tensors))


def read_block(
    path: Path, kind: str, evaluation: InBlocks[Found], number: int, shape: type[BlockOf]
) -> tuple[BlockOf, dict[str, Tensor]]:
    """What `write_block` wrote; `shape` has the fields ``key``, ``number`` and its own.

    Raises
    ------
    InputError
        If it is damaged, or another block.
    """
    plain, tensors = read_file(path, kind)
    block: Any = filled(shape, plain, "block")
    if (block.key, block.number) != (evaluation.key, number):
        raise InputError(f"it is block {block.number} of evaluation {block.key}")
    return block, tensors


def in_memory(
    evaluation: InBlocks[Found], watch: Callable[[float], None] = lambda _: None
) -> Found:
    """Block after block; nothing is kept on disk. `watch` is told how many are done."""
    found: list[Found] = []
    for number in range(evaluation.blocks):
        found.append(evaluation.run(number, lambda share: watch(len(found) + share)))
        watch(len(found))
    return evaluation.merged(found)


def evaluate_blocks(
    evaluation: InBlocks[Found],
    folder: Path,
    processes: Processes | None = None,
    watch: Callable[[float], None] = lambda _: None,
) -> tuple[int, ...]:
    """Do this process's blocks that are not there yet; the numbers of those that were done.

    Blocks rank, rank + world, rank + 2 world ... are this process's. `watch` is told
    how many of them are there, with fractions while one is done.

    Raises
    ------
    InputError
        As the evaluation does, if the folder cannot be written, or if nothing identifies the network.
    """
    processes = processes or Processes()
    if not evaluation.network:
        raise InputError(
            f"{evaluation.name}: nothing identifies the network, so its blocks could be "
            "another's: give its hash"
        )
    place = _made(evaluation, folder)
    own = range(processes.rank, evaluation.blocks, processes.world)
    done = []
    for count, number in enumerate(own):
        path = _block_path(place, number)
        if not path.exists():
            found = evaluation.run(number, partial(_further, watch, count))
            evaluation.write(path, number, found)
            done.append(number)
        watch(count + 1)
    return tuple(done)


def _further(watch: Callable[[float], None], count: int, share: float) -> None:
    watch(count + share)


def forget_blocks(evaluation: InBlocks[Found], folder: Path) -> None:
    """Remove the blocks of one evaluation, and the folder where it holds no other."""
    place = folder / evaluation.key
    for number in range(evaluation.blocks):
        _block_path(place, number).unlink(missing_ok=True)
    (place / _IDENTITY).unlink(missing_ok=True)
    for emptied in (place, folder):
        with suppress(OSError):  # something else lies there
            emptied.rmdir()


def missing_blocks(evaluation: InBlocks[Found], folder: Path) -> tuple[int, ...]:
    """The blocks that are not there yet."""
    place = folder / evaluation.key
    return tuple(k for k in range(evaluation.blocks) if not _block_path(place, k).exists())


def merge_blocks(evaluation: InBlocks[Found], folder: Path) -> Found:
    """All blocks together: what one process would have found, save for its seconds.

    Raises
    ------
    InputError
        If blocks are missing (names them), damaged, or of another evaluation.
    """
    missing = missing_blocks(evaluation, folder)
    if missing:
        named = ", ".join(map(str, missing[:8])) + (" ..." if len(missing) > 8 else "")
        raise InputError(
            f"{folder / evaluation.key}: {len(missing)} of {evaluation.blocks} blocks are missing "
            f"({named}): wait for the processes that do them, or run the command again"
        )
    place = folder / evaluation.key
    return evaluation.merged(
        [_read(evaluation, _block_path(place, k), k) for k in range(evaluation.blocks)]
    )


def _read(evaluation: InBlocks[Found], path: Path, number: int) -> Found:
    try:
        return evaluation.read(path, number)
    except InputError as error:
        raise InputError(
            f"{path}: not block {number} of this evaluation ({error}); delete it and run the "
            "command again"
        ) from error


def _block_path(place: Path, number: int) -> Path:
    return place / f"block-{number:05d}.safetensors"


def _made(evaluation: InBlocks[Found], folder: Path) -> Path:
    """The evaluation's own folder, with its identity for readers."""
    place = folder / evaluation.key
    made_folder(place, Repair("folder", words="choose another {}"))
    text = json.dumps(evaluation.identity, sort_keys=True, indent=1) + "\n"
    write_bytes(place / _IDENTITY, text.encode())
    return place
