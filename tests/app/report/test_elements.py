"""The page's figure of what recurrent layers do element by element."""

from typing import Any

from spikemorph.report.blocks import Figure
from spikemorph.report.page.costs.elements import POINTS, elements


def part(*counts: int) -> dict[str, Any]:
    """Two samples; the spiking network takes as many operations as said, and as many products."""
    empty = (0,) * len(counts)
    layer = {
        "node": "gru", "synops": counts, "analog_macs": counts, "spikes_out": empty,
        "mac_effective": tuple(2 * n for n in counts), "mac_changed": empty, "mac_masked": 50,
    }  # fmt: skip
    return {"counts": {"samples": 2, "along": [layer]}}


def test_means_over_samples_and_elements_are_said() -> None:
    (figure,) = elements(part(10, 30))
    assert isinstance(figure, Figure) and "gru" in figure.title
    assert "takes 20 on average; the twin 50, 20 skipping zeros, 0 skipping" in figure.reading
    drawn = str(figure.draw(600))
    assert "spiking network, from element 2 on: 30" in drawn and len(figure.keys) == 4


def test_long_sequences_are_drawn_as_means_of_neighbours() -> None:
    (figure,) = elements(part(*([0, 8] * POINTS)))
    assert isinstance(figure, Figure)
    drawn = str(figure.draw(600))
    assert drawn.count("spiking network, from") == POINTS
    assert "spiking network, from element 3 on: 4" in drawn


def test_nothing_is_drawn_of_networks_without_elements() -> None:
    assert elements({"counts": {"samples": 2}}) == []
    assert elements(part(7)) == []
