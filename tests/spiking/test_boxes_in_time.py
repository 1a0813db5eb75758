"""Whatever an input in a box does to a spiking network, at every step its sums keep to their boxes."""

import torch
from growing import CODINGS, NEURONS, integer_graphs, sums_in_time
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikemorph.convert import to_spiking
from spikemorph.graph import Graph
from spikemorph.layers.boxes import Box
from spikemorph.spiking import Coding, Neuron, ReferenceEngine, Schedule
from spikemorph.spiking.boxes import boxes_at_any_time

CAPPED = [neuron for neuron in NEURONS if neuron.capped]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    drawn=integer_graphs(),
    neuron=st.sampled_from(CAPPED),
    coding=st.sampled_from(CODINGS),
    schedule=st.sampled_from(Schedule),
    seed=st.integers(0, 2**16),
)
def test_sums_keep_to_their_boxes_at_every_step(
    drawn: tuple[Graph, Tensor], neuron: Neuron, coding: Coding, schedule: Schedule, seed: int
) -> None:
    graph, x = drawn
    grid = graph.entry.grid
    assert grid is not None
    draws = torch.Generator().manual_seed(seed)
    ends = [torch.randint(0, 3, x.shape, generator=draws) for _ in range(2)]
    lower, upper = (x - ends[0]).clamp(min=grid.low), (x + ends[1]).clamp(max=grid.high)
    network = to_spiking(graph, neuron, coding, schedule)
    boxes = boxes_at_any_time(network, Box(lower.double(), upper.double()))
    share = torch.rand(x.shape, generator=draws, dtype=torch.float64)
    point = lower + (share * (upper - lower + 1)).floor().to(torch.int64)
    trace = ReferenceEngine(network).run(point.float(), 12, record=True)
    for name, sums in sums_in_time(network, point, trace).items():
        for now in sums:
            assert bool(boxes[name].holds(now).all()), name
