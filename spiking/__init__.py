"""Neurons, codings and schedules; the reference simulator and the fast engine; traces."""

from .coding import AnalogFirstStep, Coding
from .dense import DenseEngine
from .network import Schedule, SpikingNetwork, load_network, save_network
from .neurons import Neuron
from .reference import ReferenceEngine
from .trace import Trace

__all__ = [
    "AnalogFirstStep",
    "Coding",
    "DenseEngine",
    "Neuron",
    "ReferenceEngine",
    "Schedule",
    "SpikingNetwork",
    "Trace",
    "load_network",
    "save_network",
]
