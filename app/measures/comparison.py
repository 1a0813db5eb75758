"""Several networks side by side: what each reaches, and what it costs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from spikemorph.convert import load_certified
from spikemorph.convert.certificate import curve_steps, steps_of
from spikemorph.energy import EnergyResult, PriceList, estimate_energy
from spikemorph.graph import InputError
from spikemorph.spiking import SpikingNetwork
from spikemorph.spiking.engines import engine_for
from spikemorph.zoo import Samples

from ..choices.settings import CertifyChoice
from ..sources.sampling import first, fitting
from ..sources.tasks import task_for
from .certified import certify_robust
from .evaluation import Watch, evaluate


@dataclass(frozen=True)
class Compared:
    """One network; accuracies, agreement and sparsity in per cent, energies in uJ per inference.

    `energy` is what every price list says of the network as it stands; `verdict` is the band's word
    against the equally pruned, zero-skipping integer network. `certified` is the accuracy that is
    proved on those samples that energies are of, by eps as it was given. None is what was not measured.
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
    certified: Mapping[str, float] = field(default_factory=dict)


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


_CPU = torch.device("cpu")


def compare_networks(
    paths: Sequence[Path],
    data: Samples,
    *,
    dense: Path | None = None,
    samples: int,
    price_lists: tuple[PriceList, ...],
    eps: tuple[str, ...] = (),
    device: torch.device = _CPU,
    watch: Watch = lambda _: None,
) -> tuple[Comparison, tuple[EnergyResult, ...]]:
    """Accuracy on all of `data`, energy on the first `samples`, for every saved network.

    At every `eps`, in shares of the range of inputs, what is proved on these `samples`, too.

    Raises
    ------
    InputError
        If a file is no network, two have one name, the data does not fit, or a network cannot be
        certified at an eps (`certify_robust`).
    """
    names, few = _names(paths), first(data, samples)
    other, own_steps = dense_network(dense)
    rows, costs = [], []
    for name, path in zip(names, paths, strict=True):
        network, certificate, _ = load_certified(path)
        x = fitting(data, network.graph)
        steps = curve_steps(certificate)
        engine = engine_for(network, device, most_steps=max(steps))
        seen = evaluate(
            network, engine, certificate, x, data.y, steps=steps, names=(name, data.name),
            watch=watch, task=task_for(network.graph, data),
        )  # fmt: skip
        counted = x[: len(few)]
        cost = estimate_energy(
            network, counted, max(steps), dense=other, dense_steps=own_steps,
            price_lists=price_lists, model=name, data=data.name,
        )  # fmt: skip
        row = compared(name, seen.to_dict(), cost.to_dict())
        if eps:
            choice = CertifyChoice(eps)
            proved = certify_robust(name, network, certificate, few, choice)
            shares = [proved.share(at).accuracy for at in range(len(eps))]
            row = replace(row, certified=dict(zip(eps, shares, strict=True)))
        rows.append(row)
        costs.append(cost)
    return side_by_side(data.name, rows, len(data)), tuple(costs)


def dense_network(path: Path | None) -> tuple[SpikingNetwork | None, int | None]:
    """The un-pruned network that energies are compared with, and how long it runs: as long as its own
    certificate asks for.

    Raises
    ------
    InputError
        If the file is no spiking network.
    """
    if path is None:
        return None, None
    network, certificate, _ = load_certified(path)
    return network, steps_of(certificate)


def _names(paths: Sequence[Path]) -> list[str]:
    """The files' names; their folders' where two files are called alike, as those of one run."""
    stems, folders = ([p.stem for p in paths], [p.resolve().parent.name for p in paths])
    both = [f"{folder}/{stem}" for folder, stem in zip(folders, stems, strict=True)]
    for names in (stems, folders, both):
        if len(set(names)) == len(names):
            return names
    twice = ", ".join(
        sorted({str(p) for p, name in zip(paths, both, strict=True) if both.count(name) > 1})
    )
    raise InputError(f"{twice}: given twice, or called alike; rename one, so that rows can be told")
