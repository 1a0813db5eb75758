"""Which whole numbers an integer network may read, when an image may be any within eps of a clean one."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spikemorph.graph import Input, InputError
from spikemorph.graph.errors import Setting
from spikemorph.graph.grid import Grid
from spikemorph.layers.boxes import Box

from ..threat import SLACK

_ROUNDING = 2 * SLACK  # how far an attack may leave its bounds, and 32-bit numbers their place


@dataclass(frozen=True)
class Ball:
    """All images in [0, 1] each of whose values is within `eps` of the clean one's: l-infinity.

    Parameters
    ----------
    eps : tuple of float
        In shares of the range of inputs: one for all channels, or one for each.

    Raises
    ------
    InputError
        If there is none, or one is not within 0..1.
    """

    eps: tuple[float, ...]

    def __post_init__(self) -> None:
        bad = [e for e in self.eps if not 0 <= e <= 1]
        if bad or not self.eps:
            raise InputError(
                f"{bad[0] if bad else 'none'}: give a share of the range of inputs, within 0..1, such as "
                "1/255",
                where=Setting("eps", "/".join(map(str, self.eps))),
            )

    @property
    def largest(self) -> float:
        """The largest eps of a channel."""
        return max(self.eps)

    def box(self, entry: Input, x: Tensor) -> Box:
        """The grid points that images within eps of `x`, (sample, *shape) in [0, 1], may be rounded to.

        A grid rounds in such a way that no greater value goes to a smaller point (`Grid.to_integers`, and
        every operation in it, never falls). So all points of a pixel lie between those of the least and
        the greatest value that it may have; and since pixels vary apart, the box of them has no corner
        that could be left out. Values are taken `_ROUNDING` farther than eps: images of attacks may leave
        their bounds by a millionth, and come in 32-bit numbers.

        Raises
        ------
        InputError
            If there are other channels than eps.
        """
        grid = entry.grid
        assert grid is not None
        reach = self._along(entry.shape) + _ROUNDING
        ends = [(x.double() + side * reach).clamp(0, 1) for side in (-1, 1)]
        lower, upper = (grid.to_integers(grid.interval.from_unit(end)).double() for end in ends)
        return Box(lower, upper)

    def remark(self, grid: Grid) -> str | None:
        """What it means that eps is less than a step of the grid; None where it is more."""
        step = float(grid.step / grid.interval.width)
        if self.largest >= step:
            return None
        return (
            f"eps {self.largest:.3g} is less than {step:.3g}, one step of the input's grid: a value goes "
            "to the point beside its own or stays, so this proves little more than the clean answer"
        )

    def _along(self, shape: tuple[int, ...]) -> Tensor:
        """Eps for every number of a sample, to broadcast."""
        eps = torch.tensor(self.eps, dtype=torch.float64)
        if len(eps) == 1:
            return eps.reshape(())
        channels = shape[0] if len(shape) > 1 else 1
        if len(eps) != channels:
            raise InputError(
                f"{len(eps)} numbers for inputs of shape {shape}: give one, or one for each of "
                f"{channels} channels",
                where=Setting("eps", "/".join(f"{e:g}" for e in self.eps)),
            )
        return eps.reshape(-1, *[1] * (len(shape) - 1))
