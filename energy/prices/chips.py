"""Published numbers of neuromorphic chips: absolute energies of spiking networks, nothing else.

A product with analog input is charged as one synaptic operation, though the chip would have it computed
elsewhere. Packets are counted where they arrive: one for every event and layer that reads it.
"""

import math

from ..results import Parts
from .price_list import Constant, Evidence, PriceList, Values
from .workload import Spikes

_NOTE = "absolute only: a chip's list prices no network without spikes"
_DAVIES = "Davies et al., IEEE Micro 2018, table 2 (pre-silicon simulation; synapse is a minimum)"
_SANAFE = "SANA-FE's Loihi description (micro-benchmark fits, Boyle 2023)"
_MEROLLA = "Merolla et al., Science 2014, power at several rates"
_HOEPPNER = "Hoeppner et al. 2019, as in KerasSpiking's energy model"
TRUENORTH_NEURONS, TRUENORTH_CORES = 256, 4096


def _simulated(name: str, value: float, what: str) -> Constant:
    return Constant(name, value, "pJ", f"{_DAVIES}: {what}", "14 nm", Evidence.SIMULATED)


def _fitted(name: str, value: float, what: str) -> Constant:
    return Constant(name, value, "pJ", f"{_SANAFE}: {what}", "14 nm", Evidence.FITTED)


_HOPS = Constant(
    "hops", 1.0, "hops per packet", "one mesh hop per packet, no placement known", "-",
    Evidence.ASSUMED,
)  # fmt: skip


def _synapses(values: Values, load: Spikes) -> float:
    return (load.synops + load.analog) * values["synapse"]


def _packets(load: Spikes) -> float:
    return load.spikes_in + load.analog_events + load.adds


def _table2(values: Values, load: Spikes) -> Parts:
    return Parts(
        load.layer.node,
        compute=_synapses(values, load),
        state_memory=load.driven * values["driven"] + load.idle * values["idle"],
        spike_io=load.spikes_out * values["spike"],
        routing=_packets(load) * values["hops"] * values["hop"],
    )


LOIHI_TABLE2 = PriceList(
    "loihi1-table2", "Loihi 1, its designers' table", "14 nm", _NOTE,
    (
        _simulated("synapse", 23.6, "synaptic operation"),
        _simulated("driven", 81.0, "active neuron update"),
        _simulated("idle", 52.0, "inactive neuron update"),
        _simulated("spike", 1.7, "spike within a tile"),
        _simulated("hop", 3.5, "mean of east-west 3.0 and north-south 4.0"),
        _HOPS,
    ),
    None, _table2,
)  # fmt: skip


def _sanafe(values: Values, load: Spikes) -> Parts:
    packets = _packets(load)
    return Parts(
        load.layer.node,
        compute=_synapses(values, load),
        state_memory=load.neuron_steps * values["access"] + load.driven * values["update"],
        spike_io=load.spikes_out * values["spike"],
        routing=packets * (values["packet"] + values["hops"] * values["hop"]),
    )


LOIHI_SANAFE = PriceList(
    "loihi1-sanafe", "Loihi 1, as the simulator SANA-FE has it", "14 nm",
    f"{_NOTE}; SANA-FE also updates neurons that merely hold a potential: up to a fifth more",
    (
        _fitted("synapse", 33.6, "sparse synapse"),
        _fitted("access", 51.2, "soma access, every neuron and step"),
        _fitted("update", 21.6, "soma update"),
        _fitted("spike", 69.3, "soma spike"),
        _fitted("packet", 111.0, "axon out"),
        _fitted("hop", 3.6, "mean of east-west 3.0 and north-south 4.2"),
        _HOPS,
    ),
    None, _sanafe,
)  # fmt: skip


def _truenorth(values: Values, load: Spikes) -> Parts:
    cores = math.ceil(load.layer.neurons / TRUENORTH_NEURONS)
    power = values["static_power"] * 1e9 / TRUENORTH_CORES  # pJ per second and core
    leak = power * cores * load.steps * load.layer.elements * values["tick"] * 1e-3
    return Parts(load.layer.node, compute=_synapses(values, load), static=leak)


TRUENORTH = PriceList(
    "truenorth", "TrueNorth: energy of a synaptic event, and static power for every 1 ms tick",
    "28 nm",
    f"{_NOTE}; a fit, 18 pJ an event at 20 Hz and 128 synapses where 27 pJ were published for the "
    "whole chip; cores by neurons alone (a fan-in above 256 takes more)",
    (
        Constant("synapse", 2.297, "pJ", f"{_MEROLLA}: slope", "28 nm", Evidence.FITTED),
        Constant(
            "static_power", 42.0, "mW per chip", f"{_MEROLLA}: at no activity", "28 nm",
            Evidence.FITTED,
        ),
        Constant("tick", 1.0, "ms", _MEROLLA, "28 nm", Evidence.SILICON),
    ),
    None, _truenorth,
)  # fmt: skip


def _spinnaker(values: Values, load: Spikes) -> Parts:
    updates = load.neuron_steps * values["update"]
    return Parts(load.layer.node, compute=_synapses(values, load), state_memory=updates)


SPINNAKER2 = PriceList(
    "spinnaker2-proto", "SpiNNaker 2, prototype", "28 nm", _NOTE,
    (
        Constant("synapse", 450.0, "pJ", _HOEPPNER, "28 nm", Evidence.DERIVED),
        Constant("update", 2190.0, "pJ", _HOEPPNER, "28 nm", Evidence.DERIVED),
    ),
    None, _spinnaker,
)  # fmt: skip
