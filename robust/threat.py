"""What an attacker may do to an input: a norm, and how far it may go by it."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.graph.errors import Repair

from .draws import Draws

Norm = Literal["linf", "l2"]
SLACK = 1e-6  # what rounding may add to a distance
_SMALL = 1e-12


@dataclass(frozen=True)
class Threat:
    """All images within `eps` of the clean one, and within [0, 1].

    Parameters
    ----------
    norm : str
        "linf": every pixel by at most `eps`; "l2": the whole image by at most `eps`.
    eps : float
        In units of the model's input, which is in [0, 1]: 8/255, not 8.

    Raises
    ------
    InputError
        If the norm is unknown, or eps negative or, for "linf", above 1: that would be pixel units.
    """

    norm: Norm
    eps: float

    def __post_init__(self) -> None:
        if self.norm not in ("linf", "l2"):
            raise InputError(f"norm {self.norm!r}: choose linf or l2")
        if not 0 <= self.eps < float("inf"):
            raise InputError(f"eps {self.eps}: give a finite number of 0 or more")
        if self.norm == "linf" and self.eps > 1:
            raise InputError(
                f"eps {self.eps:g} is more than the whole range of inputs, 0..1; did you mean "
                f"{self.eps:g}/255? Give it so"
            )

    def distance(self, x: Tensor, clean: Tensor) -> Tensor:
        """(sample,) how far every `x` is from its clean image."""
        flat = (x - clean).flatten(1)
        return flat.abs().amax(1) if self.norm == "linf" else _length(flat)

    def project(self, x: Tensor, clean: Tensor) -> Tensor:
        """The allowed image nearest to every `x` (for "l2": clipped to [0, 1] after the ball)."""
        if self.norm == "linf":
            return torch.minimum(torch.maximum(x, clean - self.eps), clean + self.eps).clamp(0, 1)
        change = x - clean
        length = wide(_length(change.flatten(1)), change).clamp_min(_SMALL)
        shorter = change * (self.eps / length).clamp_max(1)
        allowed = clean + shorter
        far = (allowed - clean).abs() > shorter.abs()  # rounded away: all pixels together leave
        return torch.where(far, torch.nextafter(allowed, clean), allowed).clamp(0, 1)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The step of length one along which a linear function grows most.

        None where the gradient is zero; an entry that is not a number counts as zero. The length is
        one however small the gradient: dividing by its largest entry first keeps its square in the
        numbers' range, so that a network cannot hide by scaling its logits.
        """
        gradient = gradient.nan_to_num(nan=0.0)
        if self.norm == "linf":
            return gradient.sign()
        largest = wide(gradient.flatten(1).abs().amax(1), gradient)
        scaled = torch.where(largest > 0, gradient / largest, 0.0)
        return scaled / wide(scaled.flatten(1).norm(dim=1), gradient).clamp_min(_SMALL)

    def start(self, clean: Tensor, draws: Draws) -> Tensor:
        """A random allowed image: uniform in the cube, or uniform in the ball, then clipped."""
        shape = clean.shape[1:]
        if self.norm == "linf":
            return self.project(clean + self.eps * (2 * draws.uniform(*shape) - 1), clean)
        way = self.steepest(draws.normal(*shape))
        radius = draws.fork("radius").uniform(1)[:, 0] ** (1 / max(1, clean[0].numel()))
        return self.project(clean + self.eps * way * wide(radius, clean), clean)

    def check(self, x: Tensor, clean: Tensor) -> None:
        """Prove that every `x` is allowed.

        Raises
        ------
        InputError
            Naming the first sample that is not finite, too far away, or outside [0, 1].
        """
        far = ~torch.isfinite(x).flatten(1).all(1) | (self.distance(x, clean) > self.eps + SLACK)
        bad = far | ((x < 0) | (x > 1)).flatten(1).any(1)
        if bool(bad.any()):
            index = int(bad.nonzero()[0])
            raise InputError(
                f"sample {index}: the attack left its bounds (distance "
                f"{float(self.distance(x, clean)[index]):g} of {self.eps:g}, values "
                f"{float(x[index].min()):g} to {float(x[index].max()):g}): this is a defect"
            )


def _length(flat: Tensor) -> Tensor:
    """(sample,) Euclidean; sums of a hundred thousand squares in 32 bits are off by more than `SLACK`."""
    return flat.norm(dim=1, dtype=torch.float64).to(flat.dtype)


def wide(values: Tensor, like: Tensor) -> Tensor:
    """(sample,) values, shaped to broadcast over samples like `like`."""
    return values.reshape(-1, *[1] * (like.dim() - 1))


def require_unit_range(x: Tensor) -> None:
    """Refuse inputs that are not in [0, 1].

    Raises
    ------
    InputError
        Naming the first sample outside: eps is measured in raw inputs, so a normalisation belongs
        inside the model.
    """
    bad = ~((x >= 0) & (x <= 1)).flatten(1).all(1)
    if bool(bad.any()):
        index = int(bad.nonzero()[0])
        raise InputError(
            f"sample {index}: values {float(x[index].min()):g} to {float(x[index].max()):g} are not "
            "in 0..1; attacks see raw inputs",
            Repair("mean", words="put the normalisation inside the model: {}"),
            Repair("std", words="{}"),
        )
