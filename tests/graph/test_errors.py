"""Errors are data first, and said in the words of the place that they are read at."""

import pickle

from spikemorph.graph import InputError
from spikemorph.graph.errors import Message, Repair, Setting

RANGE = Repair("input_range", (0, 255), "declare another range: {}")


def loudly(setting: Setting) -> str:
    return f"!{setting.name}!{setting.value}"


def test_an_error_is_where_what_and_what_to_do() -> None:
    error = InputError("270 is outside", RANGE, where="FILE.npz")
    assert str(error) == "FILE.npz: 270 is outside; declare another range: input_range=(0, 255)"
    assert (
        error.worded(loudly)
        == "FILE.npz: 270 is outside; declare another range: !input_range!(0, 255)"
    )
    assert [(r.setting, r.value) for r in error.repairs] == [("input_range", (0, 255))]


def test_a_setting_can_be_what_is_wrong() -> None:
    error = InputError("inputs are in 0..1", where=Setting("eps", "8"))
    assert str(error) == "eps='8': inputs are in 0..1"
    assert error.worded(loudly) == "!eps!8: inputs are in 0..1"


def test_what_it_is_a_part_of_comes_first_and_the_repair_stays() -> None:
    error = InputError("no", RANGE, where="node 'a'").under(Setting("model")).under("recipe.toml")
    assert str(error).startswith("recipe.toml: model: node 'a': no; declare")
    assert error.worded(loudly).startswith("recipe.toml: !model!None: node 'a': no; declare")
    assert error.repairs == (RANGE,)


def test_several_repairs_stand_side_by_side_and_braces_of_users_stay() -> None:
    two = (
        Repair("mean", words="put the normalisation inside the model: {}"),
        Repair("std", words="{}"),
    )
    message = Message("'{}' is odd", two)
    assert str(message) == "'{}' is odd; put the normalisation inside the model: mean, std"


def test_errors_travel_between_processes() -> None:
    error = InputError("no", RANGE, where=Setting("eps", "8")).under("a")
    found = pickle.loads(pickle.dumps(error))
    assert (str(found), found.repairs) == (str(error), error.repairs)
