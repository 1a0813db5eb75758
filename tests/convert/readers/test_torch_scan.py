"""Torch's scan, read as a graph with registers, against torch."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan
from torch.compiler import is_exporting

from spikemorph.convert import read_torch
from spikemorph.graph import Graph, UnsupportedError, run
from spikemorph.graph.nested import nested_nodes
from spikemorph.layers.scan import Scan
from spikemorph.train import initialised
from spikemorph.zoo.memories import MinGru
from spikemorph.zoo.sequence_models import FramesNet, LegendreNet, RecurrentNet

Step = Any
SHAPE = (7, 3)


def drawn(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def scans(graph: Graph) -> list[Scan]:
    return [node.op for node in graph.nodes if isinstance(node.op, Scan)]


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (lambda: LegendreNet(6, 9, 5, 4), (11, 1)),
        (lambda: RecurrentNet(nn.Sequential(MinGru(3, 5), MinGru(5, 4)), 4, 2), SHAPE),
        (lambda: FramesNet(16, (2, 3, 4), 5, 4), (6, 1, 16, 16)),
    ],
    ids=["legendre", "two minimal GRUs", "frames"],
)
def test_what_torch_computes_in_a_loop_or_at_once_is_read_as_cells(build: Any, shape: Any) -> None:
    model = initialised(build, torch.Generator().manual_seed(0)).eval()
    x = drawn(3, *shape)
    graph = read_torch(model, x)
    assert scans(graph) and all(scan.axis == 1 and not scan.reverse for scan in scans(graph))
    with torch.no_grad():
        assert torch.allclose(run(graph, x), model(x), atol=1e-5)


class Own(nn.Module):
    """A cell of two states as nobody publishes it; what of it is read, and where it starts, by name."""

    def __init__(self, reads: str, starts: str = "stored") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.reads, self.starts = reads, starts
        self.of_x, self.of_h = nn.Linear(3, 4), nn.Linear(4, 4)
        self.start = nn.Buffer(torch.rand(1, 4))

    def step(self, states: Any, element: Tensor) -> Any:
        h, c = states
        after = torch.relu(self.of_x(element) + self.of_h(h) - 0.5 * c)
        kept = 0.5 * c + after
        if self.starts == "an unknown op":
            kept = torch.erfinv(kept)
        return (after, kept), after - kept

    def forward(self, x: Tensor) -> Tensor:
        h = self.start.expand(len(x), 4).contiguous()
        if self.starts == "computed":
            h = self.of_x(x[:, 0])
        elif self.starts == "different":
            h = h * torch.arange(len(x))[:, None]
        c = torch.zeros(len(x), 4)
        axis = 1
        if self.starts == "samples":
            axis, h, c = 0, torch.zeros(7, 4), torch.zeros(7, 4)
        if is_exporting():
            states, given = scan(self.step, (h, c), x, dim=axis)
        else:
            states, made = (h, c), []
            for element in x.unbind(1):
                states, out = self.step(states, element)
                made.append(out)
            given = torch.stack(made, 1)
        if self.reads == "both":
            return states[1] + given[:, 2]
        return states[0] if self.reads == "the last state" else given


@pytest.mark.parametrize("reads", ["the last state", "all elements", "both"])
def test_any_cell_is_read_with_its_starts_and_what_is_asked_of_it(reads: str) -> None:
    model, x = Own(reads).eval(), drawn(2, *SHAPE)
    graph = read_torch(model, x)
    with torch.no_grad():
        assert torch.allclose(run(graph, x), model(x), atol=1e-5)
    assert len(scans(graph)) == (2 if reads == "both" else 1)
    starts = {register.name: register.start for register in scans(graph)[0].body.registers}
    assert all(
        torch.equal(starts[n], s)
        for n, s in zip(starts, (model.start[0], torch.zeros(4)), strict=True)
    )
    inner = [name for name, _ in nested_nodes(graph) if "/" in name]
    unread = [n for n in inner if n.endswith("/sub_1")]  # what is given out, where it is not read
    assert bool(unread) == (reads != "the last state")


@pytest.mark.parametrize(
    ("starts", "told"),
    [
        ("computed", "its first state is computed"),
        ("different", "its first state differs between samples"),
        ("samples", "it scans along the axis of samples"),
        ("an unknown op", "scan/erfinv' .erfinv.: this operator is not supported"),
    ],
)
def test_what_has_no_meaning_here_is_refused_by_name(starts: str, told: str) -> None:
    with pytest.raises(UnsupportedError, match=told):
        read_torch(Own("all elements", starts).eval(), drawn(2, *SHAPE))


@pytest.mark.parametrize(("source", "to"), [(1, -1), (-1, 1), ((1, 2), (3, 1)), (2, 0)])
def test_axes_are_moved_as_torch_moves_them(source: Any, to: Any) -> None:
    class Moved(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            moved = torch.movedim(x, source, to)
            return torch.movedim(moved, 0, 2) if to == 0 else 2 * moved

    x = drawn(2, 3, 4, 5)
    assert torch.equal(run(read_torch(Moved(), x), x), Moved()(x))
