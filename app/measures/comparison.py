"""Several networks side by side: what each reaches, and what it costs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from spikemorph.graph import InputError


@dataclass(frozen=True)
class Compared:
    """One network; accuracies, agreement and sparsity in per cent, energies in uJ per inference.

    `energy` is what every price list says of the network as it stands; `verdict` is the band's word
    against the equally pruned, zero-skipping integer network. None is what was not measured.
    """

    name: str
    kind: str
    accuracy: float | None
    agreement: float | None
    mismatching_logits: int | None
    level: str | None
    steps: int | None
    sparsity: float | None
    spikes_per_inference: float | None
    synops: float | None
    storage_bits: float | None
    verdict: str | None
    energy: Mapping[str, float | None]
    float_accuracy: float | None = None
    integer_accuracy: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Networks on one data set; accuracies, spiking, integer and float, are of its first `n` samples."""

    data: str
    networks: tuple[Compared, ...]
    n: int

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data."""
        networks = [asdict(network) for network in self.networks]
        return {"data": self.data, "n": self.n, "networks": networks}


def compared(
    name: str, evaluation: Mapping[str, Any] | None, energy: Mapping[str, Any] | None
) -> Compared:
    """One network's row, from the plain results of `evaluate` and `estimate_energy`."""
    seen, cost = evaluation or {}, energy or {}
    last = (seen.get("curve") or [{}])[-1]
    certificate, memory = seen.get("certificate") or {}, cost.get("memory") or {}
    total, nonzero = memory.get("weights_total"), memory.get("weights_nonzero")
    n = cost.get("n")
    return Compared(
        name=name,
        kind=f"SNN, {seen['neuron']} neurons" if "neuron" in seen else "SNN",
        accuracy=last.get("accuracy"),
        agreement=last.get("agreement"),
        mismatching_logits=last.get("mismatching_logits"),
        level=certificate.get("level"),
        steps=certificate.get("steps_required"),
        sparsity=100 * (1 - nonzero / total) if total else None,
        spikes_per_inference=last.get("spikes_per_inference"),
        synops=cost["counts"]["totals"]["synops"] / n if n else None,
        storage_bits=memory.get("storage_bits"),
        verdict=(cost.get("band") or {}).get("verdict"),
        energy={price["name"]: price["snn"] for price in cost.get("prices", ())},
        float_accuracy=seen.get("float_accuracy"),
        integer_accuracy=seen.get("integer_accuracy"),
    )


def in_time_row(name: str, timing: Mapping[str, Any]) -> Compared:
    """The row of a network trained through time, from the plain result of `measure_in_time`.

    It has no certificate, and no integer network that its logits could be compared with.

    Raises
    ------
    InputError
        If it is of `evaluate`, not of a recipe.
    """
    if "sparsity" not in timing:
        raise InputError(
            f"network {name!r}: timing.json has no key 'sparsity'; delete it and run again"
        )
    return Compared(
        name=name,
        kind="SNN, trained through time",
        accuracy=timing["accuracy"],
        agreement=None,
        mismatching_logits=None,
        level=None,
        steps=timing["steps"],
        sparsity=timing["sparsity"],
        spikes_per_inference=timing["spikes_per_inference"],
        synops=timing["synops"],
        storage_bits=None,
        verdict=None,
        energy={},
        float_accuracy=timing.get("float_accuracy"),
    )


def side_by_side(data: str, rows: Sequence[Compared], n: int) -> Comparison:
    """A comparison of networks that were measured on the same samples."""
    return Comparison(data, tuple(rows), n)
