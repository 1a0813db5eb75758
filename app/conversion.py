"""The whole way on one page: float graph in, certified spiking network out."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from spikemorph.convert import Certificate, canonical, certify, to_spiking
from spikemorph.graph import Graph, InputError
from spikemorph.graph.grid import Grid
from spikemorph.quant import Quantisation, RateCoding, rate_graph
from spikemorph.quant.integers import Quantised, quantised
from spikemorph.quant.prepare import ready, require_neurons
from spikemorph.spiking import AnalogFirstStep, Coding, Neuron, Schedule, SpikingNetwork
from spikemorph.spiking.coding import Constant
from spikemorph.spiking.network import Carry
from spikemorph.spiking.neurons import pow2
from spikemorph.zoo import Samples

from .choices import by_name
from .choices.settings import ConvertChoice
from .sources.models import Model
from .sources.sampling import drawn, ends, values

_FIRST = AnalogFirstStep()
_DEFAULT = pow2()


@dataclass(frozen=True)
class Conversion:
    """A spiking network, the float graph it stands for, and what is proved of it.

    `quantised` is how the integer network came about, None where it was trained or is rate-coded.
    """

    def __repr__(self) -> str:
        return f"{self.network!r}; {self.certificate!r}"

    float_graph: Graph
    network: SpikingNetwork
    certificate: Certificate
    quantised: Quantised | None = None

    def notes(self, **more: Any) -> dict[str, Any]:
        """What is saved beside the network."""
        return {"certificate": self.certificate.to_dict(), **more}


def convert_graph(
    graph: Graph,
    calibration: Tensor,
    *,
    grid: Grid,
    quantisation: Quantisation,
    neuron: Neuron = _DEFAULT,
    coding: Coding = _FIRST,
    schedule: Schedule = Schedule.FREE,
    carry: Carry = Carry.RESET,
    lengths: Tensor | None = None,
) -> Conversion:
    """Fold, calibrate, quantise, choose neurons, certify.

    Parameters
    ----------
    graph : Graph
        A float graph, as a reader gives it.
    calibration : Tensor
        (sample, *shape) real inputs from training data, within the grid's range.
    grid : Grid
        The integers that inputs lie on.
    quantisation : Quantisation
        Levels, weight bits, calibrator.
    neuron, coding, schedule, carry
        What runs in time.
    lengths : Tensor, optional
        (sample,) how many elements each calibration sample has, where not all are full.

    Raises
    ------
    InputError
        If calibration data is empty, out of range, or leaves a layer silent.
    UnsupportedError
        Naming every node that cannot be taken, or the last one where nothing would spike.
    """
    folded = canonical(graph)
    require_neurons(ready(folded)[0])
    made = quantised(folded, calibration, grid, quantisation, lengths)
    network = to_spiking(made.graph, neuron, coding, schedule, carry)
    return Conversion(folded, network, certify(network), made)


def conversion_settings(how: ConvertChoice) -> dict[str, Any]:
    """The arguments of `convert_graph` that a choice stands for.

    Raises
    ------
    InputError
        If a name or number is none.
    """
    calibrator = by_name.calibrator(how.calibrator)
    return {
        "quantisation": Quantisation(
            how.levels, how.weight_bits, calibrator, how.bias_correction, how.state_levels
        ),
        "neuron": by_name.neuron(how.neuron),
        "coding": by_name.coding(how.coding),
        "schedule": by_name.schedule(how.schedule),
        "carry": by_name.carry(how.carry),
    }


def convert_model(
    model: Model,
    calibration: Samples,
    how: ConvertChoice,
    seed: int = 0,
    rate_coded: str | None = None,
) -> Conversion:
    """What ``convert``, recipes and `to_snn` all do with a model whose input range is declared.

    Of many calibration samples, the seed draws some. With `rate_coded`, ``layer=99.9`` for example,
    the classical conversion is made, which is not exact.

    Raises
    ------
    InputError
        If a name is none, or as `convert_graph` and `convert_rate_coded` do.
    UnsupportedError
        Naming every node that cannot be taken.
    """
    settings = conversion_settings(how)
    grid = Grid.over(model.entry.interval, how.input_bits)
    shown = drawn(calibration, seed)
    x = values(shown, model.entry, mixed=True)
    if rate_coded is None:
        return convert_graph(model.graph, x, grid=grid, lengths=ends(shown), **settings)
    rates = by_name.rate_coding(rate_coded)
    return convert_rate_coded(model.graph, x, grid=grid, rates=rates, neuron=settings["neuron"])


def convert_rate_coded(
    graph: Graph, calibration: Tensor, *, grid: Grid, rates: RateCoding, neuron: Neuron
) -> Conversion:
    """The classical conversion, to compare with: inputs at every step, rates read out. Not exact.

    Raises
    ------
    InputError
        If the neuron has no largest spike (a power-of-two neuron is not rate-coded), and as
        `convert_graph` does.
    """
    if neuron.up is None or neuron.down is None:
        raise InputError(f"a {neuron.name} neuron is not rate-coded: choose if, snm, bif or burst")
    folded = canonical(graph)
    network = to_spiking(rate_graph(folded, calibration, grid, rates), neuron, Constant())
    return Conversion(folded, network, certify(network))
