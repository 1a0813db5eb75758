"""Ordinary processors, by their published energy of one multiply-accumulate.

As KerasSpiking's model has it: an update of a neuron costs one more, and a processor skips nothing, so a
spiking network costs all its synapses and neurons at every step.
"""

from ..results import Parts
from .price_list import Constant, Evidence, PriceList, Values
from .workload import Frame, Spikes

_DEGNAN = "Degnan et al. 2015, as in KerasSpiking's energy model"


def _frame(values: Values, load: Frame) -> Parts | None:
    if not load.floating:
        return None
    done = load.macs + load.layer.neurons * load.layer.elements
    return Parts(load.layer.node, compute=done * values["operation"])


def _spikes(values: Values, load: Spikes) -> Parts:
    done = load.synapses * load.steps + load.neuron_steps
    return Parts(load.layer.node, compute=done * values["operation"])


def _device(name: str, title: str, value: float) -> PriceList:
    constant = Constant("operation", value, "pJ", _DEGNAN, "-", Evidence.DERIVED)
    note = "float products at the processor's mean power; it skips no zeros"
    return PriceList(name, title, "-", note, (constant,), _frame, _spikes)


CPU = _device("cpu", "desktop processor (i7-4960X)", 8600.0)
GPU = _device("gpu", "graphics processor (Titan Black)", 300.0)
ARM = _device("arm", "embedded processor (Cortex-A)", 900.0)
