"""Certified accuracy as data: every number of its JSON, sample by sample, with what stands in the way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from spikemorph.graph.brief import brief_repr
from spikemorph.graph.plain import Plain

from ..result import Share, Subject
from .ball import Ball
from .evaluation import Certified


@dataclass(frozen=True, eq=False)
class CertifiedResult:
    """What is proved of a network on samples.

    Parameters
    ----------
    subject : Subject
        The network; its steps are those after which its spikes are proved to be settled.
    classes : int
        How many it tells apart.
    method : str
        ``intervals`` or ``lines``.
    balls : tuple of Ball
        Growing.
    found : Certified
        Sample by sample.
    remarks : tuple of str
        What an eps below a step of the input's grid means.
    reproduce : plain data
        The command, and versions.
    """

    subject: Subject
    classes: int
    method: str
    balls: tuple[Ball, ...]
    found: Certified
    remarks: Sequence[str] = ()
    reproduce: Mapping[str, Plain] = field(default_factory=dict)

    __repr__ = brief_repr

    @property
    def seconds_per_image(self) -> float:
        """All eps together, mean over the samples."""
        return self.found.seconds / max(1, len(self.found.clean))

    def share(self, at: int) -> Share:
        """The samples that are right for every image of one ball."""
        return Share.of(self.found.certified[:, at])

    def to_dict(self) -> dict[str, Plain]:
        """Plain JSON."""
        subject, found = self.subject, self.found
        return {
            "model": subject.model,
            "data": subject.data,
            "n": len(found.clean),
            "kind": subject.kind,
            "steps": subject.steps,
            "classes": self.classes,
            "norm": "linf",
            "method": self.method,
            "sparsity": {"weights": subject.weights, "nonzero": subject.nonzero},
            "clean": Share.of(found.clean).to_dict(),
            "eps": [self._row(at) for at in range(len(self.balls))],
            "seconds_per_image": self.seconds_per_image,
            "remarks": list(self.remarks),
            "per_sample": [self._sample(k) for k in range(len(found.clean))],
            "reproduce": dict(self.reproduce),
        }

    def _row(self, at: int) -> dict[str, Plain]:
        ball = self.balls[at]
        return {
            "eps": ball.largest,
            "channels": list(ball.eps) if len(ball.eps) > 1 else None,
            "certified": self.share(at).to_dict(),
            "intervals": int(self.found.intervals[:, at].sum()),
        }

    def _sample(self, k: int) -> dict[str, Plain]:
        """Up to which eps a sample is proved, and why not farther."""
        proved = int(self.found.certified[k].sum())
        upto = self.balls[proved - 1].largest if proved else None
        return {"clean": bool(self.found.clean[k]), "certified": upto, "reason": self._reason(k)}

    def _reason(self, k: int) -> str | None:
        """What is not proved at the first eps at which something is not."""
        if not bool(self.found.clean[k]):
            return "wrong without any change"
        rival, short = int(self.found.rival[k]), float(self.found.short[k])
        if rival < 0:
            return None
        return f"class {rival} may lie up to {short:.4g} above the true one"
