"""A spiking network as its user holds it: measured, attacked, reported on."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from spikemorph.convert import Certificate, canonical, certify
from spikemorph.convert.certificate import curve_steps
from spikemorph.energy import EnergyResult, estimate_energy
from spikemorph.graph import Graph
from spikemorph.robust.certified.result import CertifiedResult
from spikemorph.robust.gates.context import Companions
from spikemorph.robust.result import RobustnessResult
from spikemorph.spiking import SpikingNetwork
from spikemorph.spiking.engines import engine_for
from spikemorph.spiking.streams import Stream
from spikemorph.spiking.trace import require_steps
from spikemorph.zoo import Samples

from ..choices import by_name
from ..choices.settings import AttackChoice, CertifyChoice, ConvertChoice, chosen_of
from ..conversion import Conversion, convert_model
from ..measures.activity import activity
from ..measures.certified import certify_robust
from ..measures.evaluation import Watch, evaluate
from ..measures.inspection import inspect_graph
from ..measures.results import EvaluationResult
from ..measures.robustness import attack_model
from ..report.html import write_report
from ..report.record import Report
from ..sources.memory import Keys, model_of, samples_of
from ..sources.models import Model, certified, named_source
from ..sources.sampling import drawn, ends, first, fitting, values
from ..sources.subjects import Opened, open_certified
from ..sources.tasks import task_for
from .running import Running

Device = str | torch.device


class SNN(Running):
    """A certified spiking network, and what was last measured of it: what `to_snn` and `load` give.

    Parameters
    ----------
    network, certificate, notes, file
        As of `Running`.
    made : Conversion, optional
        How it was made; None where it was loaded.
    """

    def __init__(
        self,
        network: SpikingNetwork,
        certificate: Certificate,
        notes: Mapping[str, Any] = MappingProxyType({}),
        file: Path | None = None,
        made: Conversion | None = None,
    ) -> None:
        super().__init__(network, certificate, notes, file)
        self.made = made
        self._measured: dict[str, Any] = {}  # by the report's part
        self._counted: Tensor | None = None  # what energy was counted on

    @classmethod
    def of(
        cls,
        model: Model,
        calibration: Samples,
        how: ConvertChoice,
        seed: int = 0,
        *,
        source: str | None = None,
        rate_coded: str | None = None,
    ) -> "SNN":
        """What `to_snn` and ``convert`` make of a model; see `convert_model`.

        `source` is what finds the model again: its name in the zoo.
        """
        made = convert_model(model, calibration, how, seed, rate_coded)
        notes = {"model": model.name, "source": source, "calibration": calibration.name}
        return cls(made.network, made.certificate, notes, made=made)

    @cached_property
    def float_graph(self) -> Graph | None:
        """The float network that it stands for, in canonical form; None where that is not known."""
        if self.made is not None:
            return self.made.float_graph
        source = named_source(self.notes, self.file or Path(self.name))
        return None if source is None else self._twin(source)

    def evaluate(
        self,
        x: Any,
        y: Any = None,
        *,
        steps: Sequence[int] | None = None,
        engine: str = "auto",
        exit_rule: str = "none",
        calibration: Any = None,
        float_model: Any = None,
        keys: Keys | None = None,
        task: str | None = None,
        seed: int = 0,
        device: Device = "cpu",
        watch: Watch = lambda _: None,
    ) -> EvaluationResult:
        """Accuracy over steps, agreement with the integer network, spikes.

        Parameters
        ----------
        x, y, keys, task
            Samples and their labels, in any form that `samples_of` takes.
        steps : sequence of int, optional
            Where the curve is read; up to the certificate's by default.
        engine, exit_rule, calibration, seed
            As the options of ``evaluate``; `seed` draws of calibration samples that are no test data.
        float_model
            The float network, to measure it too; known where it was converted here, or is in the zoo.
        device, watch
            Where it runs; who is told how many samples are done.

        Raises
        ------
        InputError
            If the data does not fit the network, or a name is none.
        """
        samples, rule = (
            samples_of(x, y, name="x", keys=keys, task=task),
            by_name.exit_rule(exit_rule),
        )
        points = curve_steps(self.certificate) if steps is None else list(steps)
        require_steps(min(points, default=0))
        proof = self._proof(max(points))
        inputs = fitting(samples, self.network.graph, mixed=True)
        held = None
        if calibration is not None:
            shown = drawn(samples_of(calibration, name="calibration", keys=keys), seed)
            held = values(shown, self.network.entry)
        floats = self.float_graph if float_model is None else self._twin(float_model)
        found = evaluate(
            self.network, by_name.engine(engine, self.network, torch.device(device), max(points)),
            proof, inputs, samples.labels, steps=points, names=(self.name, samples.name),
            float_graph=floats, exit_rule=rule, exit_calibration=held, watch=watch,
            task=task_for(self.network.graph, samples), lengths=ends(samples),
        )  # fmt: skip
        self._measured["evaluation"] = found
        return found

    def energy(
        self,
        x: Any,
        *,
        samples: int = 100,
        steps: int | None = None,
        models: str = "all",
        dense: "SNN | None" = None,
        keys: Keys | None = None,
        task: str | None = None,
    ) -> EnergyResult:
        """Exact counts of operations and spikes on the first samples, priced by many models; memory.

        Parameters
        ----------
        x, keys, task
            Samples, in any form that `samples_of` takes.
        samples : int
            How many of them, the first ones, are counted on.
        steps : int, optional
            What the certificate asks for by default.
        models : str
            ``all`` price lists, or names with commas between them.
        dense : SNN, optional
            The network un-pruned; else its own spikes through all weights.

        Raises
        ------
        InputError
            If the data does not fit, there is none, or a name is none.
        """
        lists = by_name.price_lists(models)
        given = samples_of(x, name="x", keys=keys, most=max(samples, 1), task=task)
        few = first(given, samples)
        inputs = fitting(few, self.network.graph)
        found = estimate_energy(
            self.network, inputs, steps or max(curve_steps(self.certificate)),
            dense=None if dense is None else dense.network,
            dense_steps=None if dense is None else steps or dense.settled,
            price_lists=lists, model=self.name, data=given.name,
        )  # fmt: skip
        self._measured["energy"], self._counted = found, inputs
        return found

    def attack(
        self,
        x: Any,
        y: Any = None,
        *,
        eps: str | float | Sequence[str | float],
        undefended: "SNN | None" = None,
        transfer: "Sequence[SNN]" = (),
        keys: Keys | None = None,
        seed: int = 0,
        device: Device = "cpu",
        **choice: Any,
    ) -> RobustnessResult:
        """Clean and worst-case accuracy on the first samples at every eps, with sanity gates.

        Parameters
        ----------
        x, y, keys
            Samples and their labels, in any form that `samples_of` takes.
        eps
            How far an image may be changed, in shares of the inputs' range: "8/255", 0.03, or several.
        undefended, transfer
            Networks of the same kind: one trained without attacks, for the gates; others whose images
            are tried on this one, too.
        seed, device
            What random starts are drawn by; where it runs.
        choice
            Fields of `AttackChoice`: attacks, paths, patience, norm, samples, gate_samples, corruptions.

        Raises
        ------
        InputError
            If samples have no labels or do not fit, an eps or a name is none, or there is no certificate
            of level A.
        """
        several = (eps,) if isinstance(eps, str | float | int) else tuple(eps)
        chosen = chosen_of(AttackChoice, choice, eps=several)
        others = [other.opened(device) for other in transfer]
        bare = None if undefended is None else undefended.opened(device).target
        beside = Companions(bare, tuple(other.target for other in others))
        given = samples_of(x, y, name="x", keys=keys, most=chosen.samples)
        found = attack_model(
            self.opened(device), given, chosen, seed, companions=beside, sources=others
        )
        self._measured["robustness"] = found
        return found

    def certify_robust(
        self,
        x: Any,
        y: Any = None,
        *,
        eps: str | float | Sequence[str | float],
        keys: Keys | None = None,
        **choice: Any,
    ) -> CertifiedResult:
        """The share of samples that are right for every image within eps: proved, not attacked.

        Parameters
        ----------
        x, y, keys
            Samples and their labels, in any form that `samples_of` takes.
        eps
            How far a value may be changed, in shares of the inputs' range: "1/255", 0.01, or several.
        choice
            Fields of `CertifyChoice`: method, samples.

        Raises
        ------
        InputError
            If samples have no labels or do not fit, an eps or a name is none, or there is no certificate
            of level A.
        GraphError
            Naming a node whose sums are too wide for exact bounds.
        """
        several = (eps,) if isinstance(eps, str | float | int) else tuple(eps)
        chosen = chosen_of(CertifyChoice, choice, eps=several)
        given = samples_of(x, y, name="x", keys=keys, most=chosen.samples or None)
        found = certify_robust(self.name, self.network, self.certificate, given, chosen)
        self._measured["certified"] = found
        return found

    def stream(self, steps: int | None = None, engine: str = "auto") -> Stream:
        """The network as it runs one element of a sequence after another, with a state to keep.

        Raises
        ------
        UnsupportedError
            Naming every node that looks at several elements at a time.
        InputError
            If no layer is recurrent, there is no step, or no engine of that name.
        """
        return Stream(self.network, self.settled if steps is None else steps, engine)

    def opened(self, device: Device = "cpu") -> Opened:
        """The network as attacks see it.

        Raises
        ------
        InputError
            If it has no certificate of level A.
        """
        return open_certified(self.name, self.network, self.certificate, torch.device(device))

    def report(self, path: str | Path = "report.html") -> Path:
        """Write one page of all that was measured, that opens offline, and its data beside it as JSON.

        Raises
        ------
        InputError
            If it cannot be written.
        """
        parts = {"certificate": self.certificate.to_dict()}
        parts |= {part: result.to_dict() for part, result in self._measured.items()}
        if self.float_graph is not None:
            parts["model"] = inspect_graph(self.name, self.float_graph).to_dict()
        if self._counted is not None:
            engine = engine_for(self.network, most_steps=self.settled)
            seen = activity(self.network, engine, self._counted, self.settled)
            parts["activity"] = seen.to_dict()
        write_report(Report(parts), Path(path))
        return Path(path)

    def _proof(self, steps: int) -> Certificate:
        known = self.certificate
        return known if known.steps_used == steps else certify(self.network, steps)

    def _twin(self, source: Any) -> Graph:
        model = model_of(source, self.network.entry.shape)
        return canonical(model.declare(self.network.entry.interval).graph)


def load(source: str | Path) -> SNN:
    """A network from the file that `SNN.save` or ``convert`` wrote, or from the zoo: ``zoo:NAME``.

    Its certificate is proved again.

    Raises
    ------
    InputError
        If there is none, or the file is damaged or holds something else.
    """
    network, certificate, notes = certified(source)
    return SNN(network, certificate, notes, file=Path(source))
