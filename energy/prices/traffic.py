"""Models of what moves: membranes (STEP, NeurIPS 2025) and spikes (Yan et al., arXiv 2409.08290).

STEP charges a spiking network for reading and writing its membrane at every step, and lets the quantised
network work bit by bit, so that a product takes as many additions as the activation has bits set.

Yan et al. compare with a quantised network of ``b = ceil(log2(T + 1))`` activation bits. Their law for a
large fan-in, as reconstructed from the published numbers, is per synapse

    E_SNN / E_QNN = [T s (E_acc + E_w) + min(T s m_s, T m_d) h] / [E_mac + E_w + b m_d h]

with s spikes per neuron and step, m_s and m_d the energy of moving one bit of an event or of a dense
frame one hop, h hops. Here ``T s`` is what was counted: synaptic operations over synapses.
"""

import math
from collections.abc import Mapping

from ..results import Parts
from .compute import FLOAT_ADD, FLOAT_MAC
from .price_list import Constant, Evidence, PriceList, Values
from .workload import Frame, Spikes

_STEP = "Shen et al., STEP, NeurIPS 2025 (arXiv 2505.11151), table 9"
_YAN = "Yan et al., arXiv 2409.08290"
RATIOS = (1, 4, 12, 64)  # of moving an event's bit to moving a dense bit

MEMORY_BIT = Constant("memory_bit", 3.12, "pJ per bit", _STEP, "45 nm", Evidence.DERIVED)


def _step_frame(values: Values, load: Frame) -> Parts:
    work = (load.bit_macs + load.adds) * values["float_add"]
    if load.floating:
        work = load.macs * values["float_mac"] + load.adds * values["float_add"]
    often = load.layer.neurons * load.layer.elements
    state = 2 * often * load.output_bits * values["memory_bit"]
    return Parts(load.layer.node, compute=work, state_memory=state)


def _step_spikes(values: Values, load: Spikes) -> Parts:
    work = load.analog * values["float_mac"]
    work += (load.synop_bits + load.adds) * values["float_add"]
    state = 2 * load.neuron_steps * values.widths.state * values["memory_bit"]
    return Parts(load.layer.node, compute=work, state_memory=state)


STEP = PriceList(
    "step", "additions and membrane traffic, against a bit-serial integer network (STEP-style)",
    "45 nm", "reconstruction of a published model; weights are fetched free",
    (FLOAT_MAC, FLOAT_ADD, MEMORY_BIT), _step_frame, _step_spikes, in_band=True,
)  # fmt: skip


def _yan_frame(values: Values, load: Frame) -> Parts | None:
    if load.floating:
        return None
    move = load.activation_bits * values["dense_bit_hop"] * values["hops"]
    return Parts(
        load.layer.node,
        compute=load.macs * values["product"],
        weight_memory=load.macs * values["weight"],
        routing=load.macs * move,
    )


def _yan_spikes(values: Values, load: Spikes) -> Parts:
    bits, dense = load.event_bits, values["dense_bit_hop"] * values["hops"]
    sparse = min(
        load.synops * bits * dense * values["event_ratio"],
        load.steps * load.synapses * bits * dense,
    )
    return Parts(
        load.layer.node,
        compute=load.synop_bits * values["accumulate"] + load.analog * values["product"],
        weight_memory=(load.synops + load.analog) * values["weight"],
        routing=sparse + load.analog * load.layer.input_bits * dense,
    )


def yan22(ratio: int) -> PriceList:
    """The list in which an event's bit costs `ratio` times a dense bit to move."""
    constants = (
        _yan("accumulate", 0.05448, "pJ", Evidence.DERIVED, "accumulate, compare, subtract"),
        _yan("weight", 0.13, "pJ per 4-bit weight", Evidence.FITTED, "read of a weight, fitted"),
        _yan("product", 0.03, "pJ", Evidence.FITTED, "product times the share of activity, fitted"),
        _yan("dense_bit_hop", 0.25, "pJ per bit and hop", Evidence.DERIVED, "dense movement"),
        _yan("event_ratio", ratio, "1", Evidence.DERIVED, "event over dense movement; varied"),
        _yan("hops", 1.0, "1", Evidence.ASSUMED, "hops of one transfer"),
    )
    return PriceList(
        f"yan22-eta{ratio}",
        f"accumulation, weights and movement; an event's bit costs {ratio} times a dense bit",
        "22 nm", "reconstruction of a published law for a large fan-in",
        constants, _yan_frame, _yan_spikes, in_band=True,
    )  # fmt: skip


def _yan(name: str, value: float, unit: str, evidence: Evidence, what: str) -> Constant:
    return Constant(name, float(value), unit, f"{_YAN}: {what}", "22 nm", evidence)


def large_fan_in_ratio(values: Mapping[str, float], rate: float, steps: int) -> float:
    """``E_SNN / E_QNN`` at `rate` spikes per neuron and step; see the module's text."""
    dense = values["dense_bit_hop"] * values["hops"]
    moved = min(steps * rate * values["event_ratio"], steps) * dense
    worked = steps * rate * (values["accumulate"] + values["weight"])
    return (worked + moved) / _quantised(values, steps)


def large_fan_in_break_even(values: Mapping[str, float], steps: int) -> float:
    """The rate at which the law's ratio is 1, as long as events are sent one by one."""
    event = values["event_ratio"] * values["dense_bit_hop"] * values["hops"]
    each = steps * (values["accumulate"] + values["weight"] + event)
    return _quantised(values, steps) / each


def _quantised(values: Mapping[str, float], steps: int) -> float:
    bits = math.ceil(math.log2(steps + 1))
    return values["product"] + values["weight"] + bits * values["dense_bit_hop"] * values["hops"]
