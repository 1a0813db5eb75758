"""Arithmetic alone, in 45 nm: the customary model in 32-bit floats, and a fair one in integers."""

from ..results import Parts
from .price_list import Constant, Evidence, PriceList, Values
from .workload import Frame, Spikes

HOROWITZ = "Horowitz, ISSCC 2014, 45 nm, 0.9 V"


def _silicon(name: str, value: float, what: str) -> Constant:
    return Constant(name, value, "pJ", f"{HOROWITZ}: {what}", "45 nm", Evidence.DERIVED)


FLOAT_MAC = _silicon("float_mac", 4.6, "32-bit float multiply 3.7 and add 0.9")
FLOAT_ADD = _silicon("float_add", 0.9, "32-bit float add")
ADD32 = _silicon("add32", 0.1, "32-bit integer add")
MULTIPLY32 = _silicon("multiply32", 3.1, "32-bit integer multiply")
MULTIPLY8 = _silicon("multiply8", 0.2, "8-bit integer multiply")
SHIFT32 = Constant(
    "shift32", 0.13, "pJ", "You et al., ShiftAddNet, NeurIPS 2020: 32-bit shift; not checked", "45 nm",
    Evidence.DERIVED,
)  # fmt: skip
INTEGER = (FLOAT_MAC, FLOAT_ADD, ADD32, MULTIPLY32, MULTIPLY8, SHIFT32)


def multiply(values: Values, left: int, right: int) -> float:
    """pJ of an integer product of two widths: in proportion to their product, as an array's cells.

    From the 8-bit multiplier up to 8 bits, from the 32-bit one above.
    """
    if max(left, right) <= 8:
        return values["multiply8"] * left * right / 64
    return values["multiply32"] * left * right / 1024


def add(values: Values) -> float:
    """pJ of an addition to an accumulator."""
    return values["add32"] * values.widths.accumulator / 32


def event_work(values: Values, load: Spikes) -> float:
    """pJ of all synaptic operations of a layer.

    Each is an addition; an event that is a larger power of two shifts the weight first, any other
    size multiplies it.
    """
    wide = values["shift32"] * values.widths.accumulator / 32
    product = multiply(values, load.layer.weight_bits, load.event_bits)
    return load.synops * add(values) + load.shifted * wide + load.graded * product


def frame_arithmetic(values: Values, load: Frame) -> float:
    """pJ of a layer's products and additions, in floats or integers of its widths."""
    if load.floating:
        return load.macs * values["float_mac"] + load.adds * values["float_add"]
    product = multiply(values, load.weight_bits, load.activation_bits) + add(values)
    extra = load.scalings * (multiply(values, 8, 8) + add(values))
    return load.macs * product + (load.adds + load.bias_adds) * add(values) + extra


def spike_arithmetic(values: Values, load: Spikes) -> float:
    """pJ of a spiking layer's additions, and of its products with analog input."""
    product = multiply(values, load.layer.weight_bits, load.layer.input_bits) + add(values)
    extra = load.scalings * (multiply(values, 8, 8) + add(values))
    sums = (load.adds + load.bias_adds) * add(values)
    return load.analog * product + event_work(values, load) + sums + extra


def _float_frame(values: Values, load: Frame) -> Parts | None:
    if not load.floating:
        return None
    return Parts(load.layer.node, compute=load.macs * values["float_mac"])


def _float_spikes(values: Values, load: Spikes) -> Parts:
    energy = load.analog * values["float_mac"] + load.synops * values["float_add"]
    return Parts(load.layer.node, compute=energy)


def _integer_frame(values: Values, load: Frame) -> Parts:
    return Parts(load.layer.node, compute=frame_arithmetic(values, load))


def _integer_spikes(values: Values, load: Spikes) -> Parts:
    return Parts(load.layer.node, compute=spike_arithmetic(values, load))


def counts_rate_twice(published_uj: float, accumulates: float, rate: float) -> bool:
    """Whether a published energy is additions times 0.9 pJ times the firing rate, within 1 %.

    Additions that were counted in the spiking network contain the rate already. At least one table in
    print multiplies by it again, and claims a 274-fold gain where it is 37-fold.
    """
    twice = accumulates * FLOAT_ADD.value * rate * 1e-6
    return rate < 1 and abs(published_uj - twice) <= 0.01 * twice


SYNOPS_FP32 = PriceList(
    "synops-fp32",
    "32-bit float products against 32-bit float additions",
    "45 nm",
    "compute-only: no memory, no neuron updates; a float network is compared with float spikes",
    (FLOAT_MAC, FLOAT_ADD),
    _float_frame,
    _float_spikes,
)
SYNOPS_INT = PriceList(
    "synops-int",
    "integer products against integer additions, at the widths used",
    "45 nm",
    "compute-only: no memory, no neuron updates",
    INTEGER,
    _integer_frame,
    _integer_spikes,
    in_band=True,
)
