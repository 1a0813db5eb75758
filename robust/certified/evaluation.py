"""Certified accuracy: how many images no change within eps can make wrong, found in blocks."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor

from spikemorph.graph import Graph, InputError
from spikemorph.graph.brief import brief_repr
from spikemorph.graph.fields import NUMBERS, TRUTHS, WHOLE, Between, Shape, filled
from spikemorph.graph.plain import Plain
from spikemorph.graph.saving import content_hash
from spikemorph.layers.integer_pass import IntegerPass
from spikemorph.layers.readout import Readout

from ..cascade.block_files import InBlocks, read_block, write_block
from ..threat import require_unit_range
from .ball import Ball
from .proof import Prover, Verdict

_KIND = "certified block"
REVISION = 1  # raised when bounds are found otherwise than before
BLOCK = 200


@dataclass(frozen=True, eq=False)
class Certified:
    """What is proved of some samples, at every eps.

    Parameters
    ----------
    clean : Tensor
        (sample,) bool: right without any change.
    intervals, certified : Tensor
        (sample, eps) bool: proved by intervals alone; by the method.
    rival : Tensor
        (sample,) int64: where a right sample was not proved at some eps, the class that is worst at the
        first such; else -1.
    short : Tensor
        (sample,) float64: by how much the bound of that class lies above the label's, at most, in real
        logits; else zero.
    seconds : float
        That it took.
    """

    clean: Annotated[Tensor, TRUTHS, Shape("sample")]
    intervals: Annotated[Tensor, TRUTHS, Shape("sample", "eps")]
    certified: Annotated[Tensor, TRUTHS, Shape("sample", "eps")]
    rival: Annotated[Tensor, WHOLE, Shape("sample"), Between(-1)]
    short: Annotated[Tensor, NUMBERS, Shape("sample")]
    seconds: float = 0.0

    __repr__ = brief_repr


@dataclass(frozen=True)
class _Block:
    """What the JSON of a block holds."""

    key: str
    number: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Certification(InBlocks[Certified]):
    """Certified accuracy that is found in blocks.

    Parameters
    ----------
    model : str
        The network's name.
    network : str
        What identifies it: a hash of its file.
    graph : Graph
        The integer graph that it computes exactly.
    x, y : Tensor
        (sample, *shape) in [0, 1]; (sample,) int64 labels.
    balls : tuple of Ball
        Growing; what is not proved in one is not tried in the next.
    method : str
        See `Prover`.
    block : int
        Samples of one file.

    Raises
    ------
    InputError
        If there is no sample or ball, they do not grow, or a value is outside [0, 1].
    GraphError, UnsupportedError
        As `Prover`.
    """

    model: str
    network: str
    graph: Graph
    x: Tensor
    y: Tensor
    balls: tuple[Ball, ...]
    method: str = "lines"
    block: int = BLOCK

    __repr__ = brief_repr

    def __post_init__(self) -> None:
        if self.block < 1 or not len(self.x):
            raise InputError(
                f"{len(self.x)} samples in blocks of {self.block}: give at least one of each"
            )
        grow = zip(self.balls, self.balls[1:], strict=False)
        if not self.balls or any(not _within(one, other) for one, other in grow):
            raise InputError("eps: give at least one, growing, none twice")
        require_unit_range(self.x)
        for ball in self.balls:
            ball.box(self.graph.entry, self.x[:1])
        _ = self.prover

    @property
    def name(self) -> str:
        return self.model

    @cached_property
    def prover(self) -> Prover:
        """What bounds the graph."""
        return Prover(self.graph, self.method)

    @cached_property
    def identity(self) -> dict[str, Plain]:
        """All that the result depends on, as plain JSON."""
        return {
            "network": self.network,
            "eps": [list(ball.eps) for ball in self.balls],
            "method": self.method,
            "samples": content_hash({}, {"x": self.x, "y": self.y}),
            "n": len(self.x),
            "block": self.block,
            "revision": REVISION,
            "versions": {name: version(name) for name in ("spikemorph", "torch")},
        }

    def run(self, number: int, watch: Callable[[float], None] | None = None) -> Certified:
        """One block; `watch` is told what share of it is done."""
        began, prover = time.perf_counter(), self.prover
        x, y = self.x[self.rows(number)], self.y[self.rows(number)]
        found = _Open(self.graph, x, y, len(self.balls))
        for at, ball in enumerate(self.balls):
            for rows in found.standing(at).split(prover.together):
                if len(rows):
                    box = ball.box(self.graph.entry, x[rows])
                    found.enter(at, rows, prover.verdict(box, y[rows]))
            if watch is not None and at + 1 < len(self.balls):
                watch((at + 1) / len(self.balls))
        return found.closed(time.perf_counter() - began)

    def merged(self, found: Sequence[Certified]) -> Certified:
        together = {
            name: torch.cat([vars(one)[name] for one in found])
            for name, value in vars(found[0]).items()
            if isinstance(value, Tensor)
        }
        return Certified(**together, seconds=sum(one.seconds for one in found))

    def write(self, path: Path, number: int, found: Certified) -> None:
        tensors = {name: value for name, value in vars(found).items() if name != "seconds"}
        write_block(path, _KIND, self, number, {"seconds": found.seconds}, tensors)

    def read(self, path: Path, number: int) -> Certified:
        block, tensors = read_block(path, _KIND, self, number, _Block)
        found = filled(Certified, {**tensors, "seconds": block.seconds}, "block")
        rows, wanted = self.rows(number), (len(self.balls),)
        if found.certified.shape != (rows.stop - rows.start, *wanted):
            raise InputError("its tensors are not of these samples and eps")
        return found


def _within(one: Ball, other: Ball) -> bool:
    """Whether every image of one ball is in the other, which is larger."""
    size = max(len(one.eps), len(other.eps))
    pairs = zip(
        one.eps * (size // len(one.eps)), other.eps * (size // len(other.eps)), strict=False
    )
    return all(a <= b for a, b in pairs) and one.largest < other.largest


class _Open:
    """What is found of a block's samples while it is being found."""

    def __init__(self, graph: Graph, x: Tensor, y: Tensor, count: int) -> None:
        grid, readout = graph.entry.grid, graph[graph.outputs[0]].op
        assert grid is not None and isinstance(readout, Readout)
        self._unit = float(readout.unit)
        self._clean = IntegerPass(graph)(grid.interval.from_unit(x)).argmax(1) == y
        self._intervals, self._certified = (
            torch.zeros(len(x), count, dtype=torch.bool) for _ in range(2)
        )
        self._rival = torch.full((len(x),), -1)
        self._short = torch.zeros(len(x), dtype=torch.float64)

    def standing(self, at: int) -> Tensor:
        """The samples that are right and were proved at every eps before."""
        before = self._certified[:, at - 1] if at else self._clean
        return before.nonzero()[:, 0]

    def enter(self, at: int, rows: Tensor, verdict: Verdict) -> None:
        """What is proved of some samples at one eps."""
        self._intervals[rows, at], self._certified[rows, at] = verdict.intervals, verdict.proved
        failed = ~verdict.proved
        self._rival[rows[failed]] = verdict.rival[failed]
        self._short[rows[failed]] = -verdict.least[failed] * self._unit

    def closed(self, seconds: float) -> Certified:
        """All of it."""
        flags = self._clean, self._intervals, self._certified
        return Certified(*flags, self._rival, self._short, seconds)
