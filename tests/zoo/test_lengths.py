"""Laws of samples with lengths: they stay with their samples, and what cannot be is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from spikemorph.graph.errors import InputError
from spikemorph.graph.grid import Interval
from spikemorph.recipes.origins import samples_hash
from spikemorph.sources.memory import samples_of
from spikemorph.sources.sampling import drawn, first, split_data
from spikemorph.zoo import Samples, load_data

NAN = float("nan")


def marked(count: int = 12, elements: int = 7) -> Samples:
    """Sequences of which everything that sample n has tells n: value, length, label, its length."""
    n = torch.arange(count)
    lengths = n % elements + 1
    x = n.float()[:, None, None].expand(-1, elements, 2).clone()
    x[torch.arange(elements) >= lengths[:, None]] = NAN
    y = n[:, None].expand(-1, 3).clone()
    return Samples("marked", x, y, lengths=lengths, label_lengths=n % 4)


def require_together(samples: Samples) -> list[int]:
    """The marks of samples, each of which has kept what is its own."""
    n = samples.x[:, 0, 0].long()
    assert samples.y is not None and samples.lengths is not None
    assert samples.label_lengths is not None
    assert torch.equal(samples.y, n[:, None].expand(-1, 3))
    assert torch.equal(samples.lengths, n % 7 + 1)
    assert torch.equal(samples.label_lengths, n % 4)
    return n.tolist()


def save(path: Path, samples: Samples) -> str:
    np.savez(path, **{name: t.numpy() for name, t in samples.tensors().items()})  # type: ignore[arg-type]
    return str(path)


def test_every_way_to_choose_samples_keeps_what_is_theirs(tmp_path: Path) -> None:
    every = marked()
    assert require_together(every.take(5)) == [0, 1, 2, 3, 4]
    assert require_together(first(every, 100)) == list(range(12))
    assert require_together(every.picked(torch.tensor([7, 3]))) == [7, 3]
    assert len(set(require_together(drawn(every, seed=1, most=6)))) == 6
    path = save(tmp_path / "own.npz", every)
    assert require_together(load_data(path)) == list(range(12))
    assert require_together(load_data(f"{path}:4")) == [0, 1, 2, 3]
    pair = split_data(path, None, seed=0)
    halves = require_together(pair.calibration), require_together(pair.test)
    assert sorted([*halves[0], *halves[1]]) == list(range(12))


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.uint64])
def test_lengths_are_read_in_any_whole_type(tmp_path: Path, kind: type) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, x=np.zeros((2, 3, 1)), lengths=np.array([3, 1], dtype=kind))
    found = load_data(str(path)).lengths
    assert found is not None and found.dtype == torch.int64 and found.tolist() == [3, 1]


def test_what_lies_past_an_end_says_nothing(tmp_path: Path) -> None:
    """It may be any number or none, and is nearest to zero for a network; labels there are no classes."""
    x = torch.tensor([[[0.5], [NAN]], [[0.25], [1.0]]])
    y = torch.tensor([[1, 99], [0, 1]])
    lengths = torch.tensor([1, 2])
    samples = Samples("s", x, y, lengths=lengths, label_lengths=lengths)
    assert samples.values().flatten().tolist() == [0.5, 0.0, 0.25, 1.0]
    assert samples.values(Interval.of(0.25, 1)).flatten().tolist() == [0.5, 0.25, 0.25, 1.0]
    assert samples.values(Interval.of(-1, 1)).flatten().tolist() == [0.5, 0.0, 0.25, 1.0]
    path = save(tmp_path / "own.npz", samples)
    assert load_data(path).classes == ("0", "1")


def test_lengths_are_part_of_what_samples_hold() -> None:
    """A run is another one where lengths are others; without lengths its hash is of x and y alone."""
    x = torch.zeros(2, 3, 1)
    plain = Samples("s", x)
    hashes = {
        samples_hash(Samples("s", x, lengths=None if n is None else torch.tensor(n)))
        for n in (None, [3, 1], [1, 3])
    }
    assert len(hashes) == 3 and samples_hash(plain) in hashes
    assert plain.tensors().keys() == {"x"}
    assert marked().unlabelled().tensors().keys() == {"x", "lengths"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lengths": [3, 0]}, "s: lengths: sample 1 has length 0: give 1 to 3"),
        ({"lengths": [4, 1]}, "s: lengths: sample 0 has length 4: give 1 to 3"),
        ({"lengths": [-1, 1]}, "s: lengths: sample 0 has length -1: give 1 to 3"),
        ({"lengths": [3]}, r"s: lengths: lengths of shape \(1,\).* each of 2 samples"),
        ({"lengths": [[3], [1]]}, r"s: lengths: lengths of shape \(2, 1\)"),
        ({"lengths": [3.0, 1.0]}, "s: lengths is float32; give int64"),
        ({"lengths": [True, True]}, "s: lengths is bool; give int64"),
        ({"x": torch.zeros(2), "lengths": [1, 1]}, "s: lengths .* give x as .sample, element"),
        ({"label_lengths": [1, 1]}, "s: label_lengths .* give y as .sample, element"),
        ({"y": [0, 1], "label_lengths": [1, 1]}, "s: label_lengths .* give y as .sample, element"),
        (
            {"y": [[0], [1]], "label_lengths": [2, 1]},
            "label_lengths: sample 0 has length 2: give 0",
        ),
        ({"y": [[0], [1]], "label_lengths": [0, -1]}, "label_lengths: sample 1 has length -1"),
        ({"y": [[5, 0], [0, 2]], "label_lengths": [0, 2]}, r"y at index \(1, 1\) is 2; .* 0..1"),
        ({"x": torch.full((2, 3, 1), NAN)}, r"x at index \(0, 0, 0\) is nan; .* need lengths"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(fields: dict[str, list[int]], message: str) -> None:
    tensors = {name: torch.as_tensor(value) for name, value in fields.items()}
    with pytest.raises(InputError, match=message) as caught:
        Samples("s", tensors.pop("x", torch.zeros(2, 3, 1)), classes=("a", "b"), **tensors)
    assert "\n" not in str(caught.value)


def test_a_number_that_is_none_within_a_length_is_named() -> None:
    x = torch.zeros(2, 3, 1)
    x[0, 2], x[1, 1] = NAN, NAN
    with pytest.raises(InputError, match=r"x at index \(1, 1, 0\) is nan"):
        Samples("s", x, lengths=torch.tensor([2, 2]))


def test_sequences_in_a_list_are_told_how_to_be_given() -> None:
    with pytest.raises(InputError, match="is a list; .* in Samples with lengths"):
        samples_of([torch.zeros(3, 1), torch.zeros(2, 1)])
    given = Samples("s", torch.zeros(2, 3, 1), lengths=torch.tensor([3, 2]))
    kept = samples_of(given, [1, 0])
    assert kept.lengths is given.lengths and kept.y is not None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"lengths": np.array([3, 0])}, "lengths: sample 1 has length 0"),
        ({"lengths": np.array([3, 2**64 - 1], np.uint64)}, f"length {2**64 - 1} is none"),
        ({"lengths": np.array([3.0, 1.0])}, "lengths is float64; give whole numbers"),
        ({"lengths": np.array([3])}, "2 samples but 1 lengths; give one length a sample"),
        ({"lengths": np.array(3)}, r"lengths is of shape \(\); give one length a sample"),
        ({"label_lengths": np.array([1, 1])}, "label_lengths .* give y as .sample, element"),
        ({"x": np.array([np.zeros(2), np.zeros(3)], object)}, "x holds objects.*and give lengths"),
    ],
)
def test_a_file_with_unfit_lengths_says_what(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, **{"x": np.zeros((2, 3, 1)), **arrays})  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message) as caught:
        load_data(str(path))
    assert "own.npz" in str(caught.value) and "\n" not in str(caught.value)
