"""What an evaluation of robustness found, as data: every number of its JSON, with its interval."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from torch import Tensor

from spikemorph.graph.brief import brief_repr
from spikemorph.graph.plain import Plain

from .cascade.outcome import MemberOutcome, WorstCase
from .gates.gate import Gate
from .gates.gradients import PathRecord
from .intervals import wilson


@dataclass(frozen=True)
class Subject:
    """What was evaluated.

    Parameters
    ----------
    model, data : str
        Their names.
    kind : str
        ``ann``, ``snn``, ``exact``: what kind of network stands in the row.
    steps : int, optional
        Time steps; None without time.
    weights, nonzero : int, optional
        How many weights it has, and how many are not zero.
    network : str
        What tells it from all others: a hash of its file; needed where blocks are kept on disk.
    trained_eps : float, optional
        The eps (l-infinity, a share of the range of inputs) that its training attacked within; None
        where that is not known or no training attacked it.
    """

    model: str
    data: str
    kind: str
    steps: int | None = None
    weights: int | None = None
    nonzero: int | None = None
    network: str = ""
    trained_eps: float | None = None


@dataclass(frozen=True)
class Share:
    """Samples that are right, with the 95 % interval of their percentage."""

    correct: int
    n: int

    @classmethod
    def of(cls, right: Tensor) -> "Share":
        """The share of true ones."""
        return cls(int(right.sum()), len(right))

    @property
    def accuracy(self) -> float:
        """Per cent."""
        return 100 * self.correct / max(1, self.n)

    @property
    def interval(self) -> tuple[float, float]:
        """Per cent (Wilson, 1927)."""
        return wilson(self.correct, self.n)

    def to_dict(self) -> dict[str, Plain]:
        """Plain JSON."""
        low, high = self.interval
        counts = {"correct": self.correct, "n": self.n}
        return {**counts, "accuracy": self.accuracy, "low": low, "high": high}


@dataclass(frozen=True, eq=False)
class EpsRow:
    """One eps.

    Parameters
    ----------
    outcome : WorstCase
        What was found at this eps.
    standing : Tensor
        (sample,) bool: right after all attacks at this and every smaller eps, whose images are
        allowed here too.
    """

    outcome: WorstCase
    standing: Tensor

    __repr__ = brief_repr

    @property
    def worst(self) -> Share:
        """What is left."""
        return Share.of(self.standing)

    def to_dict(self) -> dict[str, Plain]:
        """Plain JSON.

        ``robust`` and ``cumulative`` are what is left after the member and all before it;
        ``alone`` is known of members that met every sample which is right without attack.
        ``carried`` samples were broken at a smaller eps only.
        """
        members = [
            {
                **member.to_dict(),
                "robust": after,
                "cumulative": after,
                "alone": self._alone(member),
            }
            for member, after in zip(self.outcome.members, self.outcome.cumulative, strict=True)
        ]
        return {
            "eps": self.outcome.threat.eps,
            "attacks": members,
            "worst_case": self.worst.accuracy,
            "ci95": list(self.worst.interval),
            "correct": self.worst.correct,
            "n": self.worst.n,
            "carried": int((self.outcome.worst & ~self.standing).sum()),
        }

    def _alone(self, member: MemberOutcome) -> float | None:
        if member.attacked != int(self.outcome.clean.sum()):
            return None
        return 100 * (member.attacked - member.broken) / max(1, len(self.standing))


@dataclass(frozen=True)
class Example:
    """A sample that was broken, as a picture.

    Parameters
    ----------
    index, label, clean_class, adversarial_class : int
        In the data set; what it is; what the network says before and after.
    eps : float
        The smallest that was enough.
    attack : str
        What broke it.
    shape : tuple of int
        Channels, height, width.
    clean, adversarial : tuple of int
        Pixels, 0..255, channel by channel and row by row.
    """

    index: int
    label: int
    clean_class: int
    adversarial_class: int
    eps: float
    attack: str
    shape: tuple[int, ...]
    clean: tuple[int, ...]
    adversarial: tuple[int, ...]


# Attack -> points (eps or steps, percentage or mean loss).
Points = Mapping[str, Sequence[tuple[float, float]]]


@dataclass(frozen=True)
class Curves:
    """Lines to draw.

    Parameters
    ----------
    accuracy_vs_eps
        ``worst case`` and the evaluation's attacks on all samples; ``pgd (gates)`` is attacked
        anew at every eps, on the gates' samples.
    accuracy_vs_steps, loss_vs_steps
        On the gates' samples.
    """

    accuracy_vs_eps: Points = field(default_factory=dict)
    accuracy_vs_steps: Points = field(default_factory=dict)
    loss_vs_steps: Points = field(default_factory=dict)

    def to_dict(self) -> dict[str, Plain]:
        """Plain JSON."""
        return {
            name: {attack: [list(point) for point in points] for attack, points in line.items()}
            for name, line in vars(self).items()
        }


@dataclass(frozen=True, eq=False)
class RobustnessResult:
    """An evaluation, whole; `to_dict` is the JSON that commands write and reports read.

    Parameters
    ----------
    subject : Subject
        What was evaluated.
    classes : int
        How many the network tells apart.
    norm : str
        "linf" or "l2".
    seed : int
        Of all draws.
    clean : Tensor
        (sample,) bool: right without attack.
    eps : tuple of EpsRow
        By growing eps.
    curves, paths, gates, examples
        What else was measured.
    corruptions : plain data, optional
        Accuracy under the common corruptions.
    reproduce : plain data
        The command, and versions.
    """

    subject: Subject
    classes: int
    norm: str
    seed: int
    clean: Tensor
    eps: tuple[EpsRow, ...]
    curves: Curves = field(default_factory=Curves)
    paths: tuple[PathRecord, ...] = ()
    gates: tuple[Gate, ...] = ()
    examples: tuple[Example, ...] = ()
    corruptions: Mapping[str, Plain] | None = None
    reproduce: Mapping[str, Plain] = field(default_factory=dict)

    def __repr__(self) -> str:
        clean = Share.of(self.clean).accuracy
        worst = ", ".join(
            f"{row.worst.accuracy:.2f} % at {self.norm} {row.outcome.threat.eps:.4g}"
            for row in self.eps
        )
        flags = (
            f"; {len(self.red_flags)} red flags of {len(self.gates)} gates" if self.gates else ""
        )
        return (
            f"{self.subject.model} on {self.subject.data}, {len(self.clean)} samples: clean "
            f"{clean:.2f} %, worst case {worst}{flags}"
        )

    @property
    def red_flags(self) -> tuple[Gate, ...]:
        """The gates that failed."""
        return tuple(gate for gate in self.gates if gate.passed is False)

    def to_dict(self) -> dict[str, Plain]:
        """Plain JSON."""
        subject = self.subject
        return {
            "model": subject.model,
            "data": subject.data,
            "n": len(self.clean),
            "kind": subject.kind,
            "steps": subject.steps,
            "classes": self.classes,
            "norm": self.norm,
            "trained_eps": subject.trained_eps if self.norm == "linf" else None,
            "seed": self.seed,
            "sparsity": {"weights": subject.weights, "nonzero": subject.nonzero},
            "clean": Share.of(self.clean).to_dict(),
            "eps": [row.to_dict() for row in self.eps],
            "curves": self.curves.to_dict(),
            "paths": [path.to_dict() for path in self.paths],
            "gates": [gate.to_dict() for gate in self.gates],
            "examples": [
                {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(item).items()}
                for item in self.examples
            ],
            "corruptions": None if self.corruptions is None else dict(self.corruptions),
            "per_sample": {
                "clean": self.clean.long().tolist(),
                "worst": {
                    f"{row.outcome.threat.eps:.10g}": row.standing.long().tolist()
                    for row in self.eps
                },
            },
            "reproduce": dict(self.reproduce),
        }
