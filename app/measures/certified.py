"""Certified accuracy of an exact spiking network on data, as a command's or a user's choice says."""

from spikemorph.convert import Certificate
from spikemorph.convert.certificate import steps_of
from spikemorph.graph import InputError
from spikemorph.graph.errors import Repair, Setting
from spikemorph.graph.tasks import Kind
from spikemorph.robust.certified.ball import Ball
from spikemorph.robust.certified.evaluation import Certification
from spikemorph.robust.certified.proof import METHODS
from spikemorph.robust.certified.result import CertifiedResult
from spikemorph.robust.result import Subject
from spikemorph.spiking import SpikingNetwork
from spikemorph.zoo import Samples

from ..choices import by_name
from ..choices.settings import CertifyChoice
from ..provenance import provenance
from ..sources.sampling import ends, labels_of, values
from ..sources.subjects import EXACT, weight_counts
from ..sources.tasks import task_for
from .robustness import Measured, Where


def certify_robust(
    name: str,
    network: SpikingNetwork,
    certificate: Certificate,
    data: Samples,
    choice: CertifyChoice,
    *,
    where: Where = Where(),  # noqa: B008  a frozen value
    command: str = "",
) -> CertifiedResult:
    """The samples whose answer no change within eps makes wrong: proved, of all such images.

    The proof is of the integer network, which the spiking network equals from its certified steps on.

    Raises
    ------
    InputError
        If the certificate is not of level A (names the node that breaks it), the data has no labels,
        another shape or ends before its last element, the outputs are no classes, or an eps is none.
    GraphError, UnsupportedError
        As `spikemorph.robust.certified.proof.Prover`, naming nodes.
    """
    balls = balls_of(choice)
    _require_exact(name, certificate)
    samples = data.take(min(choice.samples or len(data), len(data)))
    task = task_for(network.graph, samples).one_class("certify")
    if task.kind is not Kind.CLASSES:
        raise InputError(
            f"{name}: it answers yes or no by one output; margins are of two outputs or more: "
            "certify a network with an output for each class"
        )
    if ends(samples) is not None:
        raise InputError(f"{samples.name}: its samples end at lengths; give samples of one length")
    entry = network.entry
    x, y = entry.interval.to_unit(values(samples, entry)), labels_of(samples).flatten()
    block = where.block_of(len(x))
    work = Certification(
        name, certificate.network_hash, network.graph, x, y, balls, choice.method, block
    )
    measure = Measured(where, 1, "bounds")
    found = measure(work)
    measure.forget()
    subject = Subject(
        name, data.name, EXACT, steps_of(certificate), *weight_counts(network.graph),
        network=certificate.network_hash,
    )  # fmt: skip
    assert entry.grid is not None
    said = dict.fromkeys(remark for ball in balls if (remark := ball.remark(entry.grid)))
    made = provenance(command, {}, {"network": certificate.network_hash})
    return CertifiedResult(
        subject, task.classes, choice.method, balls, found, tuple(said), made.to_dict()
    )


def balls_of(choice: CertifyChoice) -> tuple[Ball, ...]:
    """The balls of a choice, which is checked.

    Raises
    ------
    InputError
        If an eps, the method or a number of samples is none.
    """
    if choice.method not in METHODS:
        raise InputError(f"known: {', '.join(METHODS)}", where=Setting("method", choice.method))
    if choice.samples < 0:
        raise InputError("give 1 or more; 0 takes all", where=Setting("samples", choice.samples))
    several = [str(text).split(":") for text in choice.eps]
    return tuple(Ball(tuple(by_name.eps_of(text) for text in texts)) for texts in several)


def _require_exact(name: str, certificate: Certificate) -> None:
    """Refuse a network whose spikes may differ from the integer network."""
    if certificate.level == "A":
        return
    why = next(iter(certificate.refusals), None)
    if why is None:
        used, required = certificate.steps_used, certificate.steps_required
        why = f"it was saved to run for {used} of the {required} steps that it needs"
    raise InputError(
        f"{name}: {why}; so its certificate is of level {certificate.level or 'none'}, and what is "
        "proved of its integer network need not hold of its spikes",
        Repair("neuron", words="convert it with a {} that reaches level A, for all its steps"),
    )
