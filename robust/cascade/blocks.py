"""A worst case that is evaluated in blocks, each of which can be kept as a file (`block_files`)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.graph.brief import brief_repr
from spikemorph.graph.fields import TRUTHS, WHOLE, Between, Shape, filled
from spikemorph.graph.plain import Plain
from spikemorph.graph.saving import content_hash

from ..attacks.base import NAMED_BY, Attack
from ..draws import Draws
from ..target import Target
from ..threat import require_unit_range
from .block_files import InBlocks, read_block, write_block
from .members import members_of
from .outcome import MemberOutcome, WorstCase, merge
from .patience import Patience
from .worst_case import BLOCK, worst_case

_KIND = "evaluation block"
REVISION = 3  # raised when attacks, paths or the cascade find something else than before


@dataclass(frozen=True, eq=False)
class Evaluation(InBlocks[WorstCase]):
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
    patience : Patience, optional
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
    patience: Patience | None = None

    __repr__ = brief_repr

    def __post_init__(self) -> None:
        members_of(self.target, self.attacks, self.patience)
        if self.block < 1 or not len(self.x):
            raise InputError(
                f"{len(self.x)} samples in blocks of {self.block}: give at least one of each"
            )
        require_unit_range(self.x)

    @property
    def name(self) -> str:
        return self.target.name

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
            "patience": _settings(self.patience, "patience"),
            "revision": REVISION,
            "versions": {name: version(name) for name in ("spikemorph", "torch")},
        }

    def run(self, number: int, watch: Callable[[float], None] | None = None) -> WorstCase:
        """One block; `watch` is told what share of it is done, members being weighed by cost."""
        costs = [m.cost for m in members_of(self.target, self.attacks, self.patience)]

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
            patience=self.patience,
            watch=told,
        )

    def merged(self, found: Sequence[WorstCase]) -> WorstCase:
        return merge(list(found))

    def write(self, path: Path, number: int, found: WorstCase) -> None:
        """Images are stored where they differ from the clean ones, in broken samples."""
        tensors = {
            "clean": found.clean,
            "worst": found.worst,
            "broken_by": found.broken_by,
            "adversarial": found.adversarial[found.broken_by >= 0],
        }
        plain: dict[str, Plain] = {"members": [member.to_dict() for member in found.members]}
        write_block(path, _KIND, self, number, plain, tensors)

    def read(self, path: Path, number: int) -> WorstCase:
        block, tensors = read_block(path, _KIND, self, number, _Block)
        members = tuple(MemberOutcome.from_dict(member) for member in block.members)
        clean = self.x[self.rows(number)].detach()
        flags, images = _flags_and_images(tensors, clean, len(members))
        return WorstCase(self.attacks[0].threat, *flags, images, members)

    @property
    def _indices(self) -> Tensor:
        if self.indices is None:
            return torch.arange(len(self.x), device=self.x.device)
        return self.indices


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
