"""What was measured of a network: plain data with units in the names, ready for JSON or a table."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from spikemorph.convert import Certificate
from spikemorph.graph.tasks import Distance, Kind

MOST_ROWS = 20  # of a table that a value shows of itself


@dataclass(frozen=True)
class CurvePoint:
    """One row of accuracy over time; accuracy and agreement in per cent.

    `agreement` is the share of samples whose class equals the integer network's;
    `mismatching_logits` counts integers that differ from the integer pass, over all samples and
    outputs. Accuracy is None where the data has no labels. A rate-coded network stands for no
    integer network: its agreement is with the float network, and no logits are compared (None).
    Outputs that are numbers have no accuracy and no agreement: `error` is their distance from the
    network that they would agree with, `target_error` that from the targets.
    """

    steps: int
    accuracy: float | None
    agreement: float | None
    mismatching_logits: int | None
    spikes_per_inference: float
    error: Distance | None = None
    target_error: Distance | None = None


@dataclass(frozen=True)
class Errors:
    """How far numbers lie apart, of a network whose outputs are numbers; None what was not measured."""

    float_to_targets: Distance | None
    integer_to_targets: Distance | None
    integer_to_float: Distance | None
    spiking_to_targets: Distance | None


@dataclass(frozen=True)
class Settled:
    """The end of the run: steps until silence (per sample), accuracy, integers that differ."""

    steps_max: int
    steps_mean: float
    accuracy: float | None
    mismatching_logits: int | None
    silent_share: float


@dataclass(frozen=True)
class EarlyExit:
    """What an early-exit rule gave: mean steps, accuracy and agreement in per cent."""

    rule: str
    steps_mean: float
    accuracy: float | None
    agreement: float | None


@dataclass(frozen=True)
class Letters:
    """Of networks that read strings: edits for each hundred letters of the labels; None unknown."""

    float_errors: float | None
    integer_errors: float | None
    spiking_errors: float | None


@dataclass(frozen=True)
class EvaluationResult:
    """Accuracy over time of one network on one data set."""

    model: str
    data: str
    n: int
    outputs: int
    neuron: str
    float_accuracy: float | None
    integer_accuracy: float | None
    curve: tuple[CurvePoint, ...]
    settled: Settled
    certificate: Certificate
    seconds: float
    exit: EarlyExit | None = None
    task: str = Kind.CLASSES
    error: Errors | None = None
    letters: Letters | None = None

    def __repr__(self) -> str:
        last = self.curve[-1]
        ran = f"{self.model} on {self.data}, {self.n} samples, {last.steps} steps"
        if last.error is not None:
            return f"{ran}: rmse {last.error.rmse:.4g} to the integer network's outputs"
        named = (self.float_accuracy, self.integer_accuracy, last.accuracy)
        shares = zip(("float", "integer", "spiking"), named, strict=True)
        told = ", ".join(f"{name} {share:.2f} %" for name, share in shares if share is not None)
        agree = (
            f"agreement {last.agreement:.2f} %" if last.agreement is not None else "no agreement"
        )
        return f"{ran}: {told or agree}; {last.spikes_per_inference:,.1f} spikes an inference"

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data; the certificate by its three main facts."""
        plain = asdict(self) | {"task": str(self.task)}
        plain["curve"] = [asdict(point) for point in self.curve]
        if self.error is None:  # nothing of numbers where answers are classes
            plain.pop("error")
            for point in plain["curve"]:
                del point["error"], point["target_error"]
        if self.letters is None:
            plain.pop("letters")
        plain["certificate"] = short_certificate(self.certificate)
        return plain


def short_certificate(certificate: Certificate) -> Mapping[str, Any]:
    """Level and steps."""
    return {
        "level": certificate.level,
        "steps_required": certificate.steps_required,
        "steps_used": certificate.steps_used,
    }


@dataclass(frozen=True)
class NodeFate:
    """What becomes of one node of a model."""

    name: str
    op: str
    shape: tuple[int, ...] | None
    converts: bool
    reason: str


@dataclass(frozen=True)
class Inspection:
    """What a model is made of, and what of it converts."""

    model: str
    nodes: tuple[NodeFate, ...]
    supported: bool
    parameters: int | None  # not known where the model could not be read whole
    unseen: int = 0  # nodes behind those that cannot be taken, which were not looked at

    def __repr__(self) -> str:
        odd = sum(not node.converts for node in self.nodes)
        head = f"{self.model}: {f'{odd} nodes do not convert' if odd else 'every node converts'}"
        shown = [node for node in self.nodes if not node.converts] if odd else self.nodes
        rows = [(node.name, node.op, node.reason) for node in shown[:MOST_ROWS]]
        wide = [max(len(row[k]) for row in rows) for k in (0, 1)] if rows else [0, 0]
        lines = [f"  {name:{wide[0]}}  {op:{wide[1]}}  {reason}" for name, op, reason in rows]
        left = len(shown) - len(rows)
        return "\n".join([head, *lines, *([f"  and {left} more"] if left else [])])

    def to_dict(self) -> dict[str, Any]:
        """The inspection as plain data."""
        plain = asdict(self)
        plain["nodes"] = [asdict(node) for node in self.nodes]
        return plain
