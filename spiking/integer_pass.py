"""One pass of the integer network of a settled spiking network."""

from spikemorph.layers import integer_pass

from .network import SpikingNetwork


def IntegerPass(network: SpikingNetwork) -> integer_pass.IntegerPass:  # noqa: N802  for a while
    """The pass of the network's graph."""
    return integer_pass.IntegerPass(network.graph)
