"""The network as an attack sees it: broken samples stop, and gradients are watched."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spikemorph.graph.brief import brief_repr

from ..draws import Draws
from ..threat import SLACK, Threat, wide


class Stopped(Exception):
    """Every sample is broken: the attack has nothing left to do."""


class Regrouped(Exception):
    """The attack asked for other batches than it was given, so its rows cannot be told apart."""


@dataclass(frozen=True, eq=False)
class Rows:
    """One batch for an attack: samples, once for every member that shares the batch.

    Parameters
    ----------
    x : Tensor
        (row, *shape) clean images.
    y : Tensor
        (row,) labels.
    draws : Draws
        Of every row: the member's own stream of the sample.
    sample, member : Tensor
        (row,) int64: which sample, and by which member of the batch (from 0).
    judged : Tensor
        (row,) bool: stopped at the first allowed image that the network misclassifies.
    start : Tensor, optional
        (row, *shape) the best image of the sample before this attack, if it starts there.
    """

    x: Tensor
    y: Tensor
    draws: Draws
    sample: Tensor
    member: Tensor
    judged: Tensor
    start: Tensor | None = None

    __repr__ = brief_repr

    def some(self, chosen: Tensor, *, judged: bool) -> "Rows":
        """Some rows by mask, all to be stopped or none."""
        flags = torch.full_like(self.judged[chosen], judged)
        rest = (self.x[chosen], self.y[chosen], self.draws.rows(chosen), self.sample[chosen])
        start = None if self.start is None else self.start[chosen]
        return Rows(*rest, self.member[chosen], flags, start)

    def __len__(self) -> int:
        return len(self.y)


@dataclass(eq=False)
class Counters:
    """What was done for each member: (member,) int64."""

    queries: Tensor
    gradients: Tensor
    zero: Tensor
    broken_off: Tensor  # gradients that were not finite

    __repr__ = brief_repr

    @classmethod
    def none(cls, members: int, like: Tensor) -> "Counters":
        """Before anything was done."""
        zeros = torch.zeros(4, members, dtype=torch.int64, device=like.device)
        return cls(*zeros.unbind())


class JudgedModel:
    """Logits for one run of an attack on `rows`; it may be called with these rows only.

    A row is finished once the network misclassifies an allowed image of it: that image is kept,
    the row no longer costs anything, and the attack is told its last logits and a gradient of
    zero. So are rows of the same sample by later members of the batch, which would never have seen
    it. An attack that asks for batches of another size is served, but stops nothing.

    Parameters
    ----------
    model : callable
        Images and the members that they belong to, to logits.
    rows : Rows
        The batch.
    threat : Threat
        What is allowed.
    counters : Counters
        Is added to.
    clean : Tensor, optional
        (row, class) logits of the clean images, where the model's own are the same.
    """

    def __init__(
        self,
        model: Callable[[Tensor, Tensor], Tensor],
        rows: Rows,
        threat: Threat,
        counters: Counters,
        clean: Tensor | None,
    ) -> None:
        self._model, self._rows, self._threat = model, rows, threat
        self._counters, self._clean = counters, clean
        self._last: Tensor | None = None  # (row, class) what was said of every row
        self._images = rows.x.clone()
        self._pending = torch.zeros_like(counters.queries)  # gradients that may yet be taken
        self._alive = torch.ones_like(rows.judged)
        self.caught = torch.zeros_like(rows.judged)

    @property
    def dropped(self) -> Tensor:
        """(row,) given up, because an earlier member has broken the sample."""
        return ~self._alive & ~self.caught

    def images(self, returned: Tensor | None) -> Tensor:
        """The image that broke the row; of others what the attack returned."""
        if returned is None:
            return self._images
        return torch.where(wide(self.caught, returned), self._images, returned.detach())

    def __call__(self, images: Tensor) -> Tensor:
        """(sample, class) logits."""
        if len(images) != len(self._rows):
            if bool((self._rows.member != 0).any()):
                raise Regrouped
            return self._asked(images, self._rows.member.new_zeros(len(images)))
        if self._is_clean(images):
            assert self._clean is not None
            return self._clean
        if bool(self._alive.all()):
            logits = self._asked(images, self._rows.member)
            self._last = logits.detach().clone()
            self._judge(images, logits, torch.arange(len(images), device=images.device))
            return logits
        assert self._last is not None
        alive = self._alive.nonzero()[:, 0]
        logits = self._asked(images[alive], self._rows.member[alive])
        said = self._last.index_copy(0, alive, logits)
        self._last = said.detach()
        self._judge(images[alive], logits, alive)
        return said

    def _is_clean(self, images: Tensor) -> bool:
        """Whether the answer is known already, from the one pass over clean images."""
        wanted = torch.is_grad_enabled() and images.requires_grad
        return self._clean is not None and not wanted and torch.equal(images, self._rows.x)

    def _judge(self, images: Tensor, logits: Tensor, place: Tensor) -> None:
        """Finish the rows at `place` that these images break."""
        rows = self._rows
        wrong = rows.judged[place] & (logits.argmax(1) != rows.y[place])
        if not bool(wrong.any()):
            return
        hit = wrong & is_allowed(self._threat, images.detach(), rows.x[place])
        self.caught[place[hit]] = True
        self._images[place[hit]] = images.detach()[hit]
        self._alive &= ~self.caught
        first = torch.full_like(rows.sample, len(rows))  # the first member that broke the sample
        first = first.scatter_reduce(0, rows.sample[self.caught], rows.member[self.caught], "amin")
        self._alive &= rows.member < first[rows.sample]
        if not bool(self._alive.any()):
            self._counters.gradients -= self._pending  # of these images nobody asks for one
            self._counters.zero -= self._pending
            raise Stopped

    def _asked(self, images: Tensor, member: Tensor) -> Tensor:
        """Ask the model, and watch the gradient if one will be taken."""
        count = torch.bincount(member, minlength=len(self._counters.queries))
        self._counters.queries += count
        self._pending = torch.zeros_like(count)
        if not (torch.is_grad_enabled() and images.requires_grad):
            return self._model(images, member)
        # Taken to be zero until it is seen: where nothing leads back to the input, it never is.
        self._counters.gradients += count
        self._counters.zero += count
        self._pending = count
        own = images.view_as(images)
        own.register_hook(_Listener(self._counters, member))
        return self._model(own, member)


class _Listener:
    """Counts a batch's input gradients that are zero or not finite; the latter are made zero."""

    def __init__(self, counters: Counters, member: Tensor) -> None:
        self._counters, self._member, self._again = counters, member, False

    def __call__(self, gradient: Tensor) -> Tensor:
        flat = gradient.flatten(1)
        lost, zero = ~torch.isfinite(flat).all(1), (flat == 0).all(1)
        if self._again:  # a second gradient of the same logits, as of another class
            self._count("gradients", torch.ones_like(zero))
            self._count("zero", zero)
        else:
            self._counters.zero -= self._number(~zero)
        self._again = True
        self._count("broken_off", lost)
        return gradient.masked_fill(wide(lost, gradient), 0)

    def _count(self, name: str, chosen: Tensor) -> None:
        getattr(self._counters, name).add_(self._number(chosen))

    def _number(self, chosen: Tensor) -> Tensor:
        return torch.bincount(self._member[chosen], minlength=len(self._counters.queries))


def is_allowed(threat: Threat, x: Tensor, clean: Tensor) -> Tensor:
    """(sample,) whether every `x` is what `Threat.check` accepts."""
    inside = ((x >= 0) & (x <= 1)).flatten(1).all(1)  # not so for NaN
    return inside & (threat.distance(x, clean) <= threat.eps + SLACK)
