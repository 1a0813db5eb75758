"""Laws of layers whose memory is linear: what they remember, and that both forms of them agree."""

import math

import pytest
import torch
from torch import Tensor, nn

from spikemorph.train import initialised
from spikemorph.zoo.memories import LegendreMemory, MinGru, legendre_system

WINDOW = 30


def numbers(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def by_elements(layer: LegendreMemory | MinGru, x: Tensor, states: int) -> Tensor:
    """What the exported step makes, one element after another: (sample, element, state)."""
    state, found = x.new_zeros(len(x), states), []
    for element in x.unbind(1):
        state, told = layer._step(state, element)
        assert torch.equal(told, state)
        found.append(state)
    return torch.stack(found, 1)


@pytest.mark.parametrize("order", [1, 2, 7, 24])
@pytest.mark.parametrize("bits", [None, 12])
def test_a_legendre_memory_at_once_is_what_its_elements_make(order: int, bits: int | None) -> None:
    """Sequences shorter than the window, one element, and twice as long; in 32 bits."""
    layer = LegendreMemory(order, WINDOW, bits)
    for count in (1, WINDOW - 1, 2 * WINDOW + 3):
        x = numbers(3, count, 1)
        one = by_elements(layer, x, order)[:, -1]
        assert torch.allclose(layer(x), one, atol=1e-5)
    if bits is not None:
        for own in (layer.kept, layer.taken):
            assert torch.equal(own * 2**bits, (own * 2**bits).round()) and bool(own.any())


def test_it_remembers_a_window() -> None:
    """A slow wave is read from its polynomials at any delay; a constant is the first polynomial."""
    order = 12
    layer = LegendreMemory(order, 200)
    time = torch.arange(600.0, dtype=torch.float64)
    wave = torch.sin(2 * math.pi * time / 150)
    memory = by_elements(layer.double(), wave[None, :, None], order)[0, -1]
    for delay in (0.1, 0.3, 0.5, 0.9):
        values = torch.special.legendre_polynomial_p(
            torch.tensor(2 * delay - 1, dtype=torch.float64), torch.arange(order)
        )
        then = math.sin(2 * math.pi * (599.5 - delay * 200) / 150)  # an element is held for a while
        assert float(memory @ values) == pytest.approx(then, abs=5e-4)
    kept, taken = legendre_system(order, 200)
    first = torch.eye(order, 1, dtype=torch.float64)
    assert torch.allclose(kept @ first + taken, first, atol=1e-10)


@pytest.mark.parametrize("count", [1, 2, 13, 64])
def test_a_minimal_gru_at_once_is_what_its_elements_make(count: int) -> None:
    layer = initialised(lambda: MinGru(3, 5), torch.Generator().manual_seed(0))
    assert isinstance(layer, MinGru)
    x = 4 * numbers(2, count, 3) - 2
    assert torch.allclose(layer(x), by_elements(layer, x, 5), atol=1e-5)


@pytest.mark.filterwarnings("ignore")  # of torch, while it traces
@pytest.mark.parametrize("layer", [LegendreMemory(6, WINDOW), MinGru(1, 4)])
def test_what_is_exported_is_a_scan_that_computes_the_same(layer: nn.Module) -> None:
    x = numbers(2, 20, 1)
    program = torch.export.export(layer.eval(), (x,))
    assert any("scan" in str(node.target) for node in program.graph.nodes)
    assert len(program.graph.nodes) < 20
    assert torch.allclose(program.module()(x), layer(x), atol=1e-5)


def test_a_memory_knows_of_new_weights() -> None:
    """What it keeps of its response is of the weights that it has, however they came."""
    x, layer = numbers(1, 9, 1), LegendreMemory(4, WINDOW)
    before = layer(x)
    other = {"kept": 0.5 * layer.kept, "taken": 2 * layer.taken}
    layer.load_state_dict(other)
    loaded = layer(x)
    assert torch.allclose(loaded, by_elements(layer, x, 4)[:, -1], atol=1e-5)
    layer.load_state_dict({name: value.clone() for name, value in other.items()}, assign=True)
    assert torch.equal(layer(x), loaded) and not torch.allclose(loaded, before)
    layer.begin()
    assert torch.equal(layer(x), before)


def test_first_weights_are_by_definition_and_draw_nothing() -> None:
    generator = torch.Generator().manual_seed(3)
    state = generator.get_state()
    layer = initialised(lambda: LegendreMemory(5, WINDOW, 12), generator)
    assert torch.equal(generator.get_state(), state)
    again = LegendreMemory(5, WINDOW, 12)
    assert torch.equal(layer.kept, again.kept) and torch.equal(layer.taken, again.taken)
