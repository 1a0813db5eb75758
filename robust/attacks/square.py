"""Square: a search by random squares, which asks for logits only (Andriushchenko et al., 2020)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from spikemorph.graph import InputError

from ..draws import Draws
from ..target import Logits
from ..threat import Threat, wide
from .base import ONWARD, attacks
from .best_image import QuerySearch

# From this proposal on, of 10,000, squares cover p_init / 2^k of the image; k counts the row.
_HALVINGS = (11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001)
_TILES = 5  # along a side of the image from which the search for "l2" starts
_SMALL = 1e-12


@dataclass(frozen=True)
class Square:
    """Propose a change in a random square; keep it where the margin of logits grows.

    A proposal for "linf" sets a square to the clean pixels plus or minus eps, by one random sign
    for each channel. One for "l2" moves the share of eps that lies in one square into another.
    Every sample has its own squares, so results do not depend on the batch. A square may lie at any
    border (in the authors' program it never touches the last row and column).

    Parameters
    ----------
    threat : Threat
    queries : int
        Images that the network may be asked about, for each sample; the first is a start of
        vertical stripes, or of tiles for "l2". A sample that is broken is asked about no more.
    p_init : float
        The share of the image that the first squares cover.
    rescale : bool
        Whether the schedule of shares is stretched from 10,000 queries to those there are. It is
        not in AutoAttack's standard version.
    onward : bool
        Whether the first image is the best so far of all attacks, in place of stripes.

    onward : bool
        Whether the first image is the best so far of all attacks, in place of stripes.

    Raises
    ------
    InputError
        If there is no query, or the share is not in (0, 1].
    """

    threat: Threat
    queries: int
    p_init: float = 0.8
    rescale: bool = False
    onward: bool = False

    gradients = False
    loss = "cw"

    @property
    def name(self) -> str:
        """``square``, ``best:square``."""
        return f"{ONWARD if self.onward else ''}square"

    def __post_init__(self) -> None:
        if self.queries < 1 or not 0 < self.p_init <= 1:
            raise InputError(
                f"square with {self.queries} queries and p_init {self.p_init}: give at least 1 "
                "query and a share in (0, 1]"
            )

    def __call__(
        self, model: Logits, x: Tensor, y: Tensor, draws: Draws, start: Tensor | None = None
    ) -> Tensor:
        """See `Attack`; for "l2" images have at least 5 rows and columns."""
        return self.search(model, x, y, draws, start).images

    def search(
        self, model: Logits, x: Tensor, y: Tensor, draws: Draws, start: Tensor | None = None
    ) -> QuerySearch:
        """The same, with the number of queries of every sample.

        Raises
        ------
        InputError
            If images are too small for "l2"; as `QuerySearch.before` does.
        """
        clean = as_images(x)
        if self.threat.norm == "l2" and min(clean.shape[2:]) < _TILES:
            raise InputError(
                f"square for l2 needs images of at least {_TILES} x {_TILES} pixels, but samples "
                f"have the shape {tuple(x.shape[1:])}; attack them by linf, or leave square out"
            )
        search = QuerySearch.before(model, x, y)
        for query in range(self.queries if self.threat.eps > 0 else 0):
            if not len(search.left):
                break
            here = clean[search.left]
            best = as_images(search.images[search.left])
            if query == 0 and start is not None:
                proposed = as_images(start[search.left])
            else:
                proposed = self._proposal(here, best, query, draws.rows(search.left))
            proposed = self.threat.project(proposed, here)
            search = search.tried(model, proposed.reshape(-1, *x.shape[1:]), y)
        return search

    def share(self, proposal: int) -> float:
        """The share of the image that the squares of this proposal cover."""
        of_10000 = int(proposal / self.queries * 10_000) if self.rescale else proposal
        return self.p_init / 2 ** sum(of_10000 >= start for start in _HALVINGS)

    def _proposal(self, clean: Tensor, best: Tensor, query: int, draws: Draws) -> Tensor:
        """(survivor, C, H, W), to be projected."""
        stream = draws.fork(f"square {query}")
        linf = self.threat.norm == "linf"
        if query == 0:
            return self._stripes(clean, stream) if linf else self._tiles(clean, stream)
        share = self.share(query - 1)
        propose = self._painted if linf else self._moved
        return propose(clean, best, share, stream)

    def _stripes(self, clean: Tensor, draws: Draws) -> Tensor:
        _, channels, _, columns = clean.shape
        return clean + self.threat.eps * draws.signs(channels, 1, columns).to(clean)

    def _painted(self, clean: Tensor, best: Tensor, share: float, draws: Draws) -> Tensor:
        count, channels, rows, columns = clean.shape
        height, width = _sides(share, rows, columns)
        drawn = draws.uniform(2 + channels).to(clean.device)
        cells = _window(drawn, (rows, columns), (height, width))[:, None].expand(-1, channels, -1)
        sign = torch.where(drawn[:, 2:, None] < 0.5, -1.0, 1.0).to(clean)
        painted = clean.flatten(2).gather(2, cells) + self.threat.eps * sign
        return best.flatten(2).scatter(2, cells, painted).reshape(clean.shape)

    def _tiles(self, clean: Tensor, draws: Draws) -> Tensor:
        """A grid of bumps with random signs, of length eps in all."""
        count, channels, rows, columns = clean.shape
        side = rows // _TILES
        start = (rows - _TILES * side) // 2
        change = torch.zeros_like(clean)
        for row in range(start, rows - side + 1, side):
            for column in range(start, columns - side + 1, side):
                stream = draws.fork(f"tile {row} {column}")
                sign = stream.fork("sign").signs(channels, 1, 1).to(clean)
                bump = _bumps(side, stream.fork("turn"), clean) * sign
                change[:, :, row : row + side, column : column + side] = bump
        return clean + self.threat.eps * self.threat.steepest(change)

    def _moved(self, clean: Tensor, best: Tensor, share: float, draws: Draws) -> Tensor:
        """Empty one square, and spend what it held, and what is left of eps, in another."""
        _, channels, rows, columns = clean.shape
        side = max(round(math.sqrt(share * rows * columns)), 3) | 1
        side = min(side, (min(rows, columns) - 1) | 1)
        drawn = draws.uniform(4).to(clean.device)
        filled, emptied = (
            _window(part, (rows, columns), (side, side))[:, None].expand(-1, channels, -1)
            for part in (drawn[:, :2], drawn[:, 2:])
        )
        change = (best - clean).flatten(2)
        outside = change.scatter(2, emptied, 0.0).scatter(2, filled, 0.0)
        held = change.square().sum(2, keepdim=True) - outside.square().sum(2, keepdim=True)
        spare = self.threat.eps**2 - change.square().sum((1, 2), keepdim=True)
        length = (spare.clamp_min(0) / channels + held.clamp_min(0)).sqrt()
        sign = draws.fork("sign").signs(channels, 1).to(clean)
        bump = _bumps(side, draws.fork("turn"), clean).flatten(2) * sign
        bump = bump + _unit(change.gather(2, filled))
        change = outside.scatter(2, filled, _unit(bump) * length).reshape(clean.shape)
        return clean + self.threat.eps * self.threat.steepest(change)


def _sides(share: float, rows: int, columns: int) -> tuple[int, int]:
    """A square that covers a share of the image; a rectangle where the image is too low or slim."""
    side = max(round(math.sqrt(share * rows * columns)), 1)
    height = min(side, rows)
    width = min(max(round(share * rows * columns / height), 1), columns) if side > rows else side
    if width > columns:
        height, width = min(max(round(share * rows), 1), rows), columns
    return height, width


def _window(drawn: Tensor, image: tuple[int, int], window: tuple[int, int]) -> Tensor:
    """(sample, height * width) cells of a window placed by two uniform numbers a sample."""
    top, left = ((drawn[:, k] * (image[k] - window[k] + 1)).long()[:, None] for k in range(2))
    down = torch.arange(window[0], device=drawn.device).repeat_interleave(window[1])
    right = torch.arange(window[1], device=drawn.device).repeat(window[0])
    return (top + down) * image[1] + left + right


def _unit(change: Tensor) -> Tensor:
    """Of length one in every channel of (sample, channel, cell)."""
    return change / (change.norm(dim=2, keepdim=True) + _SMALL)


def _bumps(side: int, draws: Draws, like: Tensor) -> Tensor:
    """(sample, 1, side, side) the double bump, lying or standing by a fair coin."""
    bump = _bump(side).to(like)
    lying = wide(draws.uniform(1)[:, 0].to(like.device) < 0.5, like)
    return torch.where(lying, bump, bump.T)


@lru_cache(maxsize=256)
def _bump(side: int) -> Tensor:
    """A positive bump over a negative one, of length one in all (equations 2 and 3 of the paper)."""
    upper = side // 2
    halves = [_half(upper, side)] if upper else []
    both = torch.cat([*halves, -_half(side - upper, side)])
    return (both / both.norm()).float()


def _half(rows: int, columns: int) -> Tensor:
    """sum_k 1 / (k + 1)^2 over centred squares of side 2 k + 1; of length one."""
    middle, centre = rows // 2, columns // 2
    down = (torch.arange(rows) - middle).abs()[:, None]
    right = (torch.arange(columns) - centre).abs()[None]
    rings = max(middle, centre) + 1
    inverse = 1 / torch.arange(1, rings + 1, dtype=torch.float64) ** 2
    tails = torch.cat([inverse.flip(0).cumsum(0).flip(0), torch.zeros(1, dtype=torch.float64)])
    heights = tails[torch.maximum(down, right).clamp_max(rings)]
    return heights / heights.norm()


@attacks("square")
def square(threat: Threat) -> Square:
    """5000 queries, as in AutoAttack's standard version."""
    return Square(threat, queries=5000)


def image_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """The (C, H, W) that a sample of this shape is seen as.

    The last two axes stay rows and columns; all axes before them, such as time steps, count as
    channels. A flat sample is one row.

    Examples
    --------
    >>> image_shape((4, 2, 8, 8)), image_shape((10,))
    ((8, 8, 8), (1, 1, 10))
    """
    rows, columns = (1, *shape)[-2:] if shape else (1, 1)
    return math.prod(shape[:-2]), rows, columns


def as_images(x: Tensor) -> Tensor:
    """(sample, C, H, W): the same numbers in the same order."""
    return x.reshape(len(x), *image_shape(x.shape[1:])).contiguous()
