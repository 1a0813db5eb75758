"""An evaluation in blocks on disk: spread over processes and machines, and taken up after a kill.

Every block is a file, in a folder that is named after all that the result depends on. Processes
take every n-th block and pass over those that are there; whoever comes when all are there merges
them. A shared folder is all that machines need: they run the same command.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.graph.brief import brief_repr
from spikemorph.graph.errors import Repair
from spikemorph.graph.fields import TRUTHS, WHOLE, Between, Shape, filled
from spikemorph.graph.plain import Plain
from spikemorph.graph.saving import content_hash, made_folder, read_file, write_bytes, write_file
from spikemorph.train.processes import Processes

from ..attacks.base import NAMED_BY, Attack
from ..draws import Draws
from ..target import Target
from ..threat import require_unit_range
from .members import members_of
from .outcome import MemberOutcome, WorstCase, merge
from .worst_case import BLOCK, worst_case

_KIND = "evaluation block"
_IDENTITY = "identity.json"
REVISION = 3  # raised when attacks, paths or the cascade find something else than before


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A worst case that is evaluated in blocks.

    Parameters
    ----------
    target : Target
        The network and its gradient paths.
    network : str
        What identifies it, steps and neurons included: a hash of its file.
    attacks : tuple of Attack
        Frozen dataclasses under one threat, strong ones first.
    x, y : Tensor
        (sample, *shape) in [0, 1]; (sample,) int64 labels.
    seed : int
        Of all draws.
    indices : Tensor, optional
        (sample,) int64: of the samples in their data set, which choose their streams; 0, 1, 2 ...
        if left out.
    block : int
        Samples of one file.
    only_survivors : bool
        See `worst_case`.
    """

    target: Target
    network: str
    attacks: tuple[Attack, ...]
    x: Tensor
    y: Tensor
    seed: int = 0
    indices: Tensor | None = None
    block: int = BLOCK
    only_survivors: bool = True

    __repr__ = brief_repr

    def __post_init__(self) -> None:
        members_of(self.target, self.attacks)
        if self.block < 1 or not len(self.x):
            raise InputError(
                f"{len(self.x)} samples in blocks of {self.block}: give at least one of each"
            )
        require_unit_range(self.x)

    @property
    def blocks(self) -> int:
        """How many there are."""
        return -(-len(self.x) // self.block)

    @cached_property
    def identity(self) -> dict[str, Plain]:
        """All that the result depends on, as plain JSON."""
        samples = {"x": self.x, "y": self.y, "indices": self._indices}
        return {
            "network": self.network,
            "paths": [[path.name, path.exact] for path in self.target.paths],
            "attacks": [_settings(attack, attack.name) for attack in self.attacks],
            "samples": content_hash({}, samples),
            "n": len(self.x),
            "seed": self.seed,
            "block": self.block,
            "only_survivors": self.only_survivors,
            "revision": REVISION,
            "versions": {name: version(name) for name in ("spikemorph", "torch")},
        }

    @cached_property
    def key(self) -> str:
        """A name for `identity`: 16 digits of its SHA-256."""
        text = json.dumps(self.identity, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def run(self, number: int, watch: Callable[[float], None] | None = None) -> WorstCase:
        """One block; `watch` is told what share of it is done, members being weighed by cost."""
        costs = [member.cost for member in members_of(self.target, self.attacks)]

        def told(done: int, total: int) -> None:
            if watch is not None and done < total:
                watch(sum(costs[:done]) / sum(costs))

        rows = self.rows(number)
        draws = Draws.of(self.seed, self._indices[rows])
        return worst_case(
            self.target,
            self.attacks,
            self.x[rows],
            self.y[rows],
            draws,
            block=self.block,
            only_survivors=self.only_survivors,
            watch=told,
        )

    def rows(self, number: int) -> slice:
        """The samples of a block."""
        return slice(number * self.block, min((number + 1) * self.block, len(self.x)))

    @property
    def _indices(self) -> Tensor:
        if self.indices is None:
            return torch.arange(len(self.x), device=self.x.device)
        return self.indices


def evaluate_blocks(
    evaluation: Evaluation,
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
        As `worst_case` does, if the folder cannot be written, or if nothing identifies the network.
    """
    processes = processes or Processes()
    if not evaluation.network:
        raise InputError(
            f"{evaluation.target.name}: nothing identifies the network, so its blocks could be "
            "another's: give its hash"
        )
    place = _made(evaluation, folder)
    own = range(processes.rank, evaluation.blocks, processes.world)
    done = []
    for count, number in enumerate(own):
        path = _block_path(place, number)
        if not path.exists():
            found = evaluation.run(number, partial(_further, watch, count))
            _write(path, evaluation, number, found)
            done.append(number)
        watch(count + 1)
    return tuple(done)


def _further(watch: Callable[[float], None], count: int, share: float) -> None:
    watch(count + share)


def forget_blocks(evaluation: Evaluation, folder: Path) -> None:
    """Remove the blocks of one evaluation, and the folder where it holds no other."""
    place = folder / evaluation.key
    for number in range(evaluation.blocks):
        _block_path(place, number).unlink(missing_ok=True)
    (place / _IDENTITY).unlink(missing_ok=True)
    for emptied in (place, folder):
        with suppress(OSError):  # something else lies there
            emptied.rmdir()


def missing_blocks(evaluation: Evaluation, folder: Path) -> tuple[int, ...]:
    """The blocks that are not there yet."""
    place = folder / evaluation.key
    return tuple(k for k in range(evaluation.blocks) if not _block_path(place, k).exists())


def merge_blocks(evaluation: Evaluation, folder: Path) -> WorstCase:
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
    return merge([_read(_block_path(place, k), evaluation, k) for k in range(evaluation.blocks)])


def _block_path(place: Path, number: int) -> Path:
    return place / f"block-{number:05d}.safetensors"


def _made(evaluation: Evaluation, folder: Path) -> Path:
    """The evaluation's own folder, with its identity for readers."""
    place = folder / evaluation.key
    made_folder(place, Repair("folder", words="choose another {}"))
    text = json.dumps(evaluation.identity, sort_keys=True, indent=1) + "\n"
    write_bytes(place / _IDENTITY, text.encode())
    return place


@dataclass(frozen=True)
class _Block:
    """What the JSON of a block holds."""

    key: str
    number: int
    members: tuple[dict[str, Any], ...]


@dataclass(frozen=True, eq=False)
class _Flags:
    """What a block says of every sample."""

    clean: Annotated[Tensor, TRUTHS, Shape("sample")]
    worst: Annotated[Tensor, TRUTHS, Shape("sample")]
    broken_by: Annotated[Tensor, WHOLE, Shape("sample"), Between(-1)]


def _write(path: Path, evaluation: Evaluation, number: int, found: WorstCase) -> None:
    """Images are stored where they differ from the clean ones, in broken samples."""
    plain = {
        "key": evaluation.key,
        "number": number,
        "members": [member.to_dict() for member in found.members],
    }
    tensors = {
        "clean": found.clean,
        "worst": found.worst,
        "broken_by": found.broken_by,
        "adversarial": found.adversarial[found.broken_by >= 0],
    }
    write_file(path, _KIND, plain, tensors)


def _read(path: Path, evaluation: Evaluation, number: int) -> WorstCase:
    try:
        plain, tensors = read_file(path, _KIND)
        block = filled(_Block, plain, "block")
        if (block.key, block.number) != (evaluation.key, number):
            raise InputError(f"it is block {block.number} of evaluation {block.key}")
        members = tuple(MemberOutcome.from_dict(member) for member in block.members)
        clean = evaluation.x[evaluation.rows(number)].detach()
        flags, images = _flags_and_images(tensors, clean, len(members))
    except InputError as error:
        raise InputError(
            f"{path}: not block {number} of this evaluation ({error}); delete it and run the "
            "command again"
        ) from error
    return WorstCase(evaluation.attacks[0].threat, *flags, images, members)


def _flags_and_images(
    tensors: Mapping[str, Tensor], clean: Tensor, members: int
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """A block's flags, and its images in place of the clean ones they were made of."""
    held = filled(_Flags, {k: v for k, v in tensors.items() if k != "adversarial"}, "block")
    flags = tuple(t.to(clean.device) for t in (held.clean, held.worst, held.broken_by))
    found = tensors.get("adversarial", clean[:0]).to(clean)
    broken = flags[2] >= 0
    if (
        len(broken) != len(clean)
        or int(flags[2].max()) >= members
        or found.shape != clean[broken].shape
        or not bool(torch.isfinite(found).all())
    ):
        raise InputError("its tensors are not of these samples and attacks")
    images = clean.clone()
    images[broken] = found
    return (flags[0], flags[1], flags[2]), images


def _settings(value: object, where: str) -> Plain:
    """Every setting of a frozen value, by its class.

    Raises
    ------
    InputError
        If something is not plain: blocks of other settings could then be taken for these.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple):
        return [_settings(item, where) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        content = {}
        for field in fields(value):
            named = field.metadata.get(NAMED_BY)
            held = getattr(value, field.name)
            name = None if named is None else getattr(value, named)
            content[field.name] = _settings(name or held, where)
        return {"class": type(value).__name__, **content}
    raise InputError(
        f"{where}: a setting is a {type(value).__name__}, which has no name to tell its results "
        "by; evaluate without a folder"
    )
