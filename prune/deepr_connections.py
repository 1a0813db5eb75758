"""Connections of fixed sign: those that would cross zero disconnect, others take their place."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from spikemorph.graph import Graph
from spikemorph.graph.brief import brief_repr
from spikemorph.layers.masks import weighted_ops
from spikemorph.train import GraphModule
from spikemorph.train.companion import Moment

from .masked import keep_only

FIRST_STRENGTH = 1e-12  # of a new connection: above zero, so that it counts as connected

# How many connections each layer gets back: (kept, size) of every layer before -> numbers by layer
Sharing = Callable[[Mapping[str, "Signed"], Mapping[str, Tensor], Generator], Mapping[str, int]]


class Signed(nn.Module):
    """``sign * strength`` where connected, else 0 (DEEP R, ICLR 2018): what is learnt is the strength.

    Parameters
    ----------
    mask : Tensor
        Bool: where there is a connection.
    sign : Tensor
        1 or -1 for every position, connected or not; never changed.
    """

    mask: Tensor
    sign: Tensor

    def __init__(self, mask: Tensor, sign: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask.clone())
        self.register_buffer("sign", sign.clone())

    def forward(self, strength: Tensor) -> Tensor:
        return strength * (self.sign * self.mask)


def signed_module(graph: Graph, masks: Mapping[str, Tensor], generator: Generator) -> GraphModule:
    """The graph with strengths to learn; signs are the weights' own, drawn where they are zero."""
    transforms, ops = {}, weighted_ops(graph)
    for name, mask in masks.items():
        sign = ops[name].weight.detach().to(torch.float32).sign()
        coin = torch.randint(2, sign.shape, generator=generator).to(sign) * 2 - 1
        transforms[name] = Signed(mask, torch.where(sign == 0, coin, sign))
    module = GraphModule(graph, transforms)
    with torch.no_grad():
        for name, mask in masks.items():
            module.weight(name).abs_().clamp_(min=FIRST_STRENGTH).mul_(mask)
    return module


@dataclass(frozen=True)
class Walk:
    """After every update each strength takes a random step; who leaves zero's right side is replaced.

    ``strength += rate (noise N(0, 1) - l1)`` where connected. Connections that are then not above
    zero disconnect; as many others are drawn, all positions of a layer alike, and start at
    `FIRST_STRENGTH` without momentum. How many a layer gets is up to `sharing`.
    """

    names: tuple[str, ...]
    noise: float
    l1: float
    sharing: Sharing

    __repr__ = brief_repr

    def before_update(self, moment: Moment) -> bool:
        return True

    @torch.no_grad()
    def after_update(self, moment: Moment) -> None:
        module = moment.model
        assert isinstance(module, GraphModule)
        layers: dict[str, Signed] = {}
        stays: dict[str, Tensor] = {}
        for name in self.names:
            layer, strength = module.transform(name), module.weight(name)
            assert isinstance(layer, Signed)
            drift = torch.full_like(strength, -self.l1)
            if self.noise > 0:
                drawn = torch.randn(strength.shape, generator=moment.generator)
                drift += self.noise * drawn.to(strength.device)
            strength.add_(moment.rate * drift)  # where not connected, it is cleared below
            layers[name], stays[name] = layer, layer.mask & (strength > 0)
        counts = self.sharing(layers, stays, moment.generator)
        for name, layer in layers.items():
            grown = at_random(~stays[name], counts[name], moment.generator)
            strength = module.weight(name)
            keep_only(moment, strength, stays[name])
            strength.masked_fill_(grown, FIRST_STRENGTH)
            layer.mask.copy_(stays[name] | grown)


def at_random(free: Tensor, count: int, generator: Generator) -> Tensor:
    """The mask of `count` free positions, all alike."""
    chosen = torch.zeros(free.numel(), dtype=torch.bool, device=free.device)
    if count:
        places = free.reshape(-1).nonzero()[:, 0]
        order = torch.randperm(len(places), generator=generator)[:count]
        chosen[places[order.to(places.device)]] = True
    return chosen.reshape(free.shape)
