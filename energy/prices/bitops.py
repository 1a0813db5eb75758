"""Bit operations, in no unit of energy (Shen et al., Are Conventional SNNs Really Efficient?, CVPR 2024).

The bit budget of a synapse is ``T b_w b_s``; S-ACE sums it over all products, NS-ACE over those that a
spike caused. Analog input counts once, however often a coding shows it. A quantised network has
``ACE = products b_w b_a``. Counting only weights that are not zero is our extension, made for both.
"""

from ..counting.counts import Counts, LayerCounts
from ..results import BitBudget


def bit_budget(steps: int, weight_bits: int, spike_bits: int = 1) -> int:
    """Bit operations of one synapse in one inference.

    >>> bit_budget(4, 1, 2) == bit_budget(2, 1, 4) == 8
    True
    """
    return steps * weight_bits * spike_bits


def bits_of(counts: Counts, dense: Counts) -> BitBudget:
    """Bit operations per inference, pruned and through all weights."""
    masked, whole = counts.layers, dense.layers
    return BitBudget(
        ace_integer_dense=sum(layer.mac_dense * _pair(layer) for layer in whole),
        ace_integer_masked=sum(layer.mac_masked * _pair(layer) for layer in masked),
        s_ace_dense=sum(_s_ace(layer, layer.mac_dense, dense.steps) for layer in whole),
        s_ace_masked=sum(_s_ace(layer, layer.mac_masked, counts.steps) for layer in masked),
        ns_ace_dense=sum(
            layer.synops_dense_weights * _event(layer)
            + layer.analog_macs_once_dense_weights * _pair(layer)
            for layer in whole
        )
        / dense.samples,
        ns_ace_masked=sum(
            layer.synops * _event(layer) + layer.analog_macs_once * _pair(layer) for layer in masked
        )
        / counts.samples,
    )


def _pair(layer: LayerCounts) -> int:
    return layer.weight_bits * layer.input_bits


def _event(layer: LayerCounts) -> int:
    return layer.weight_bits * max(1, (layer.event_levels - 1).bit_length())


def _s_ace(layer: LayerCounts, products: int, steps: int) -> int:
    """A layer that reads analog input computes once."""
    if layer.reads_analog_only:
        return products * _pair(layer)
    spike_bits = max(1, (layer.event_levels - 1).bit_length())
    return products * bit_budget(steps, layer.weight_bits, spike_bits)
