"""What a user chooses of training with bounds: what goes together; what is refused at once."""

from typing import Any

import pytest

from spikemorph.choices.settings import TrainingChoice
from spikemorph.graph import InputError
from spikemorph.robust.training.bounds import IntervalBounds, SmallBoxes
from spikemorph.sources.models import load_graph
from spikemorph.training.settings import Bounds, lesson_of
from spikemorph.zoo import load_data


def objective_of(name: str = "ibp", **changed: Any) -> object:
    told: dict[str, Any] = {"objective": name, "eps": "8/255", "smoothing": 0.0} | changed
    model, samples = load_graph("zoo:digits_mlp"), load_data("digits:train:40")
    return lesson_of(TrainingChoice(**told), samples, model, 0)[0].objective


@pytest.mark.parametrize(
    ("found", "meant"),
    [
        ({}, IntervalBounds(8 / 255)),
        ({"beta": 0.25, "ramp": 0.1}, IntervalBounds(8 / 255, 0.25, 0.1)),
        ({"name": "sabr"}, SmallBoxes(8 / 255)),
        (
            {"name": "sabr", "beta": 0.1, "attack_steps": 2, "ramp": 0.0},
            SmallBoxes(8 / 255, 0.1, 0.0, steps=2),
        ),
    ],
)
def test_numbers_reach_the_objective(found: dict[str, Any], meant: Bounds) -> None:
    assert objective_of(**found) == meant


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"eps": "0"}, "objective ibp proves"),
        ({"smoothing": 0.1}, "labels are not smoothed"),
        ({"attack_steps": 3}, "ibp attacks nothing: leave attack_steps out"),
        ({"select": True, "held_out": 10}, "select: epochs are judged by attacks"),
        ({"distil": 0.5}, "leave distil and teacher out"),
        ({"name": "pgd", "ramp": 0.1}, "objective pgd has no boxes that grow: leave ramp out"),
        ({"name": "clean", "eps": "0", "ramp": 0.1}, "objective clean has no boxes"),
    ],
)
def test_what_does_not_go_together_is_refused(changed: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        objective_of(**changed)
