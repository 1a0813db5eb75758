"""Arithmetic and every memory access, in 45 nm, after Lemaire et al. (ICONIP 2022).

Their table counts, for a spiking layer, one weight read and one potential read and write for each
synaptic operation, one more potential read and write for each neuron and step, spikes through a queue,
and the arithmetic of addresses. A network without spikes reads every operand of every product again.

Ours in it: counts are exact (taps on padding do not count, a stride reaches what it reaches); where
fewer bits result, only weights that are not zero are stored and read, each with its index; a bias is
read when it is added; word lengths are those used. Two functions give the energy of one access to a
memory of some size: a line without limit, and one through published SRAM sizes that ends at 1 MB. They
differ by a factor of four for a large layer, so both are shown.
"""

from collections.abc import Callable
from itertools import pairwise

from ..results import Parts
from .compute import HOROWITZ, INTEGER, event_work, frame_arithmetic, multiply
from .price_list import Constant, Evidence, PriceList, Values
from .workload import Frame, Spikes

Access = Callable[[Values, float, int], float]  # (values, words, bits of a word) -> pJ an access

LEMAIRE = "Lemaire et al., ICONIP 2022 (arXiv 2210.13107)"
_SRAM = (("sram_8k", 8192, 10.0), ("sram_32k", 32768, 20.0), ("sram_1m", 1048576, 100.0))
_LINE = (
    Constant(
        "access_slope", 1.09e-5, "pJ per bit stored", f"{LEMAIRE}, its line through SRAM sizes",
        "45 nm", Evidence.DERIVED,
    ),
    Constant(
        "access_base", 13.2, "pJ per access", f"{LEMAIRE}, its line through SRAM sizes", "45 nm",
        Evidence.DERIVED,
    ),
)  # fmt: skip
_STAIR = tuple(
    Constant(
        name, value, "pJ per 32 bits",
        f"{HOROWITZ}: a 64-bit read of SRAM, {size // 1024} KB; per 32 bits as SpikingJelly counts",
        "45 nm", Evidence.DERIVED,
    )
    for name, size, value in _SRAM
)  # fmt: skip


def on_line(values: Values, words: float, bits: int) -> float:
    """pJ of one access: linear in the memory's size, without limit."""
    return values["access_slope"] * words * bits + values["access_base"]


def clamped(values: Values, words: float, bits: int) -> float:
    """pJ of one access: linear between the published sizes, constant above 1 MB, by width."""
    places = [(0.0, 0.0), *((float(size), values[name]) for name, size, _ in _SRAM)]
    size = min(words * bits / 8, places[-1][0])
    for (left, low), (right, high) in pairwise(places):
        if size <= right:
            return (low + (high - low) * (size - left) / (right - left)) * bits / 32
    raise AssertionError("the size is below the last place")


def _frame(access: Access, values: Values, load: Frame) -> Parts:
    layer, wide = load.layer, values.widths.accumulator
    if not (layer.weights or load.adds):
        return Parts(layer.node, compute=frame_arithmetic(values, load))
    reads = load.weight_reads * access(values, load.stored, load.word_bits)
    biases = load.bias_adds * access(values, layer.channels, wide)
    arriving = load.input_reads * access(values, layer.inputs, load.activation_bits)
    made = layer.outputs * layer.elements
    leaving = made * access(values, layer.outputs, load.output_bits)
    places = layer.inputs * layer.elements + made
    places += layer.channels * layer.kernel if layer.convolves else 0
    return Parts(
        layer.node,
        compute=frame_arithmetic(values, load),
        weight_memory=reads + biases,
        spike_io=arriving + leaving,
        addressing=places * values["add32"],
    )


def _spikes(access: Access, values: Values, load: Spikes) -> Parts:
    layer, widths, add = load.layer, values.widths, values["add32"]
    product = multiply(values, layer.weight_bits, layer.input_bits) + add
    weights = (load.synop_reads + load.analog_reads) * access(values, load.stored, load.word_bits)
    biases = load.bias_adds * access(values, layer.channels, widths.accumulator)
    touched = load.synops + load.analog + load.adds
    state = touched * access(values, layer.outputs, widths.state)
    state += load.neuron_steps * access(values, layer.neurons, widths.state)
    queue = access(values, widths.queue_words, 32)
    queued = load.spikes_in + load.spikes_out + load.adds
    pixels = load.analog_events * access(values, layer.inputs, layer.input_bits)
    sums = load.adds + load.bias_adds + load.neuron_steps + load.spikes_out
    scalings = load.scalings * (multiply(values, 8, 8) + add)
    events = load.spikes_in + load.analog_events
    strides = 2 * events * (values["multiply32"] + add) if layer.convolves else 0.0
    return Parts(
        layer.node,
        compute=load.analog * product + event_work(values, load) + sums * add + scalings,
        weight_memory=weights + biases,
        state_memory=2 * state,
        spike_io=queued * queue + pixels,
        addressing=strides + (load.synops + load.analog) * add,
    )


def _line_frame(values: Values, load: Frame) -> Parts:
    return _frame(on_line, values, load)


def _line_spikes(values: Values, load: Spikes) -> Parts:
    return _spikes(on_line, values, load)


def _clamped_frame(values: Values, load: Frame) -> Parts:
    return _frame(clamped, values, load)


def _clamped_spikes(values: Values, load: Spikes) -> Parts:
    return _spikes(clamped, values, load)


_NOTE = "every access counted, none reused; sparse storage and index bits are our extension"
MEM45_LINE = PriceList(
    "mem45-line", "arithmetic and memory; access energy on a line without limit", "45 nm", _NOTE,
    (*INTEGER, *_LINE), _line_frame, _line_spikes, in_band=True,
)  # fmt: skip
MEM45_CLAMPED = PriceList(
    "mem45-clamped", "arithmetic and memory; access energy ends at 1 MB", "45 nm", _NOTE,
    (*INTEGER, *_STAIR), _clamped_frame, _clamped_spikes, in_band=True,
)  # fmt: skip
