"""The certificate: what is proved of a spiking network, in a form a machine can check again.

Level A: for every input, after `steps_required` steps the spiking network's sums equal the integer
network's. Level B: the same for each input after which a silent step was seen. No level: something,
named, breaks the proof. (exactness.md, section 7.3)
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from torch import Tensor

from spikemorph.graph import InputError, Node, Op
from spikemorph.graph.fields import Between, filled
from spikemorph.graph.nested import bodies, nested_nodes
from spikemorph.graph.plain import Plain
from spikemorph.graph.records import encode, tensors_in
from spikemorph.graph.saving import TensorStore, content_hash
from spikemorph.graph.traits import Weighted
from spikemorph.layers.carriers import DOUBLE
from spikemorph.layers.ladder import Ladder
from spikemorph.layers.masks import broken_masks, mask_hash, weighted_ops
from spikemorph.layers.ranges import Range, bits
from spikemorph.spiking import Schedule, SpikingNetwork, load_network
from spikemorph.spiking.bounds import ranges
from spikemorph.spiking.network import network_to_plain
from spikemorph.spiking.settling import Settling, settling
from spikemorph.spiking.trace import require_steps

LONGEST = 2**20  # steps that a stored certificate may ask for


@dataclass(frozen=True)
class LayerProof:
    """What is proved of one neuron layer.

    `takes` is the most steps it needs once its input is complete, `final` the step by which it has
    settled; None where there is no bound. `sum_bits` is the width of the accumulator before it.
    """

    node: str
    neuron: str
    smin: int
    smax: int | None
    gate: int
    takes: int | None
    final: int | None
    sum_bits: int
    ladder_hash: str


@dataclass(frozen=True)
class MaskProof:
    """That every weight outside a layer's mask is zero; the hash is the mask's in any graph.

    `nonzero` counts weights that are not zero: rounding may have taken some of those kept.
    """

    node: str
    weights: int
    kept: int
    nonzero: int
    mask_hash: str


@dataclass(frozen=True)
class Certificate:
    """See the module's text. `refusals` says, one line a node, what breaks the proof.

    `per` says what steps are counted for: an inference; or, of a recurrent network, each element of a
    sequence of any length, and each part that runs once.

    `masks` has a row for every layer that was pruned; a mask that is not kept is a refusal.
    """

    level: str | None
    steps_required: int | None
    steps_used: Annotated[int, Between(1, LONGEST)] | None
    input_steps: int | None
    layers: tuple[LayerProof, ...]
    masks: tuple[MaskProof, ...]
    network_hash: str
    refusals: tuple[str, ...]
    per: Literal["inference", "element"] = "inference"

    def __repr__(self) -> str:
        required, used = self.steps_required, self.steps_used
        if self.level == "A":
            after = f"{required} steps{' an element' if self.per == 'element' else ''}"
            return f"certificate A: equals its integer network after {after}, for all inputs"
        if self.level == "B":
            return (
                f"certificate B: equals its integer network, run for {used} of {required} steps, for "
                "inputs after which a silent step was seen"
            )
        more = f", and {len(self.refusals) - 1} more reasons" if len(self.refusals) > 1 else ""
        return f"no certificate: {next(iter(self.refusals), 'nothing is proved')}{more}"

    def to_dict(self) -> dict[str, Any]:
        """The certificate as plain data."""
        plain = asdict(self)
        plain["layers"] = [asdict(layer) for layer in self.layers]
        plain["masks"] = [asdict(mask) for mask in self.masks]
        plain["refusals"] = list(self.refusals)
        return plain

    @classmethod
    def from_dict(cls, plain: Plain, where: str) -> "Certificate":
        """The certificate that `to_dict` gave; InputError, naming `where` and the key, if it is none."""
        return filled(cls, plain, where)


def certify(network: SpikingNetwork, steps: int | None = None) -> Certificate:
    """Prove what can be proved of a network that is run for `steps` (None: as many as required).

    Takes a pass over the weights, no data.

    Raises
    ------
    InputError
        If there is no step.
    """
    if steps is not None:
        require_steps(steps)
    known, refusals = settling(network), broken_masks(network.graph)
    bounds = None if network.rate_coded else ranges(network)
    for name, layer in known.items():
        if layer.final is None:
            refusals.append(f"node {name!r}: {layer.reason}")
    for name, node in nested_nodes(network.graph):
        refusals.extend(_static(name, node, None if bounds is None else bounds[name]))
    layers = tuple(_proof(network, node, known[node.name], bounds) for node in network.ladders())
    last = network.lasts
    finals = [last, *(layer.final for layer in known.values())]
    required = None if None in finals else max(f for f in finals if f is not None)
    used = required if steps is None else steps
    level = None
    if not refusals and required is not None and used is not None:
        level = "A" if used >= required else "B"
    masks = tuple(
        _kept(name, op, op.mask)
        for name, op in weighted_ops(network.graph).items()
        if op.mask is not None
    )
    digest = network_hash(network)
    return Certificate(
        level, required, used, last, layers, masks, digest, tuple(refusals),
        "element" if network.recurrent else "inference",
    )  # fmt: skip


def network_hash(network: SpikingNetwork) -> str:
    """SHA-256 of structure, weights, ladders, neurons, coding and schedule."""
    store = TensorStore()
    plain = network_to_plain(network, store)
    return content_hash(plain, store.tensors)


def load_certified(path: Path) -> tuple[SpikingNetwork, Certificate, Mapping[str, Any]]:
    """Load a network with its certificate, proved again; also its other notes.

    Raises
    ------
    InputError
        If the file is damaged, or the stored certificate is not what is proved now.
    """
    network, notes = load_network(path)
    if notes.get("certificate") is None:
        raise InputError(f"{path}: it has no certificate; convert the model again")
    try:
        stored = Certificate.from_dict(notes["certificate"], f"{path}: certificate")
    except InputError as error:
        raise InputError(f"{error}; convert the model again") from error
    proved = certify(network, stored.steps_used)
    if proved != stored:
        raise InputError(
            f"{path}: its certificate is not what is proved of this network; convert the model again"
        )
    return network, proved, notes


def _proof(
    network: SpikingNetwork, node: Node, known: Settling, bounds: Mapping[str, Range] | None
) -> LayerProof:
    op = node.op
    assert isinstance(op, Ladder)
    width = 0 if bounds is None else bits(bounds[node.inputs[0]])
    gate = known.gate if network.schedule is Schedule.WAIT else 1
    name = network.neuron[node.name].name
    return LayerProof(
        node.name, name, op.smin, op.smax, gate, known.takes, known.final, width, _hash(op)
    )


def _kept(name: str, op: Weighted, mask: Tensor) -> MaskProof:
    nonzero = int((op.weight != 0).sum())
    return MaskProof(name, mask.numel(), int(mask.sum()), nonzero, mask_hash(mask))


def _hash(op: Op) -> str:
    store = TensorStore()
    plain = encode(op, store)
    return hashlib.sha256(content_hash(plain, store.tensors).encode()).hexdigest()[:16]


def _static(name: str, node: Node, bound: Range | None) -> list[str]:
    """What breaks the proof at one node whatever the schedule: reals, or sums beyond 53 bits."""
    found = []
    if not bodies(node.op) and any(t.is_floating_point() for t in tensors_in(node.op)):
        found.append(f"node {name!r}: it computes with real numbers")
    if bound is not None and bound.increments.load >= DOUBLE:
        found.append(f"node {name!r}: its sums may pass 53 bits")
    return found


def curve_steps(certificate: Certificate, longest: int = 32) -> list[int]:
    """1, 2, 4, ... up to the steps that the certificate requires, or to `longest` without one."""
    end = certificate.steps_required or longest
    doubling = [2**k for k in range(end.bit_length()) if 2**k < end]
    return [*doubling, end]


def steps_of(certificate: Certificate) -> int:
    """How long a network runs: as it was saved to, or as long as its certificate asks for."""
    return certificate.steps_used or max(curve_steps(certificate))
