"""Laws of the zoo's data: what is read is what was stored, or the reason why not."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from spikemorph.graph.errors import InputError
from spikemorph.graph.grid import Interval
from spikemorph.zoo import Samples, data_catalogue, fetch_data, fetch_network, load_data
from spikemorph.zoo.digits import read_digits
from spikemorph.zoo.idx import read_idx

# The grammar of names


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nothing:test", "no data set, .npz file or folder of that name; known sets: digits"),
        ("digits", "give digits:train or digits:test"),
        ("digits:", "give digits:train or digits:test"),
        ("digits:validation", "give digits:train or digits:test"),
        ("digits:test:0", "'0' is no number of samples; give 1 or more"),
        ("digits:test:-5", "'-5' is no number of samples"),
        ("digits:test:1e3", "'1e3' is no number of samples"),
        ("digits:test:", "'' is no number of samples"),
        ("digits:test:٣", "is no number of samples"),
        ("digits:test:5:5", "not NAME:SPLIT"),
        ("digits:test:361", "cannot take 361 of 360 samples; ask for 1 to 360"),
        ("missing.npz", "missing.npz: no such file"),
        ("", "known sets"),
    ],
)
def test_a_name_that_means_nothing_says_what_would(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_data(spec)
    assert "\n" not in str(caught.value)


def test_the_first_n_are_the_first_of_all() -> None:
    some, every = load_data("digits:test:7"), load_data("digits:test")
    assert torch.equal(some.x, every.x[:7])
    assert some.y is not None and every.y is not None
    assert torch.equal(some.y, every.y[:7])
    assert (len(some), len(every)) == (7, 360)


def test_fetching_needs_a_known_name() -> None:
    assert fetch_data("digits") is None
    with pytest.raises(InputError, match="known sets: digits"):
        fetch_data("nothing")
    with pytest.raises(InputError, match="known: onnx-mnist"):
        fetch_network("nothing")


# The sets that come with the installation


def test_digits_are_scikit_learns_in_bytes() -> None:
    x, y = read_digits()
    theirs = load_digits()
    assert np.array_equal(x[:, 0].numpy(), np.rint(theirs.images * 255 / 16))
    assert np.array_equal(y.numpy(), theirs.target)


def test_digits_are_split_by_class_without_loss() -> None:
    train, test = load_data("digits:train"), load_data("digits:test")
    assert train.y is not None and test.y is not None
    x, y = read_digits()
    for digit in range(10):
        share = (test.y == digit).sum() / (y == digit).sum()
        assert abs(share - 0.2) < 0.01
    together = torch.cat([train.x, test.x]).flatten(1)
    assert torch.equal(together.unique(dim=0), x.flatten(1).unique(dim=0))
    assert len(together) == len(x)


def test_the_first_test_digits_are_a_fair_sample() -> None:
    y = load_data("digits:test:100").y
    assert y is not None
    assert y.bincount(minlength=10).min() >= 3


@pytest.mark.parametrize("entry", data_catalogue(), ids=lambda entry: entry.name)
def test_what_is_shipped_is_as_the_catalogue_says(entry: object) -> None:
    (found,) = (one for one in data_catalogue() if one is entry)
    assert found.licence and found.citation
    for name, split in found.splits.items():
        if split.shipped and split.count <= 5000:  # of larger ones a part is like the rest
            samples = load_data(f"{found.name}:{name}")
            assert tuple(samples.x.shape) == (split.count, *found.shape)
            assert samples.classes == found.classes
            assert samples.licence == found.licence
            assert samples.y is not None
            if samples.label_lengths is None:
                assert set(samples.y.tolist()) == set(range(len(found.classes)))


# Samples


def test_bytes_span_the_input_range_linearly() -> None:
    """0 is low, 255 is high, 51 is one fifth of the way."""
    samples = Samples("s", torch.tensor([[0, 51, 255]], dtype=torch.uint8))
    assert samples.values().tolist() == [pytest.approx([0, 0.2, 1])]
    assert samples.values(Interval.of(-1, 1)).tolist() == [pytest.approx([-1, -0.6, 1])]
    assert samples.values(Interval.of(0, 255)).tolist() == [[0, 51, 255]]
    every = Samples("s", torch.arange(256, dtype=torch.uint8)[:, None])
    assert torch.equal(every.values(), every.x.float() / 255)


def test_floats_pass_through_if_they_fit() -> None:
    samples = Samples("s", torch.tensor([[0.5, 0.0], [1.0, 1.25]]))
    assert torch.equal(samples.values(Interval.of(0, 2)), samples.x)
    with pytest.raises(InputError, match=r"s: sample 1, element \(1,\): 1.25 is outside .* 0..1"):
        samples.values(slack=0.2)
    assert samples.values(slack=0.25).tolist() == [[0.5, 0.0], [1.0, 1.0]]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_no_numbers_are_named(bad: float) -> None:
    x = torch.zeros(3, 2, 2)
    x[1, 0, 1] = bad
    with pytest.raises(InputError, match=rf"x at index \(1, 0, 1\) is {bad}"):
        Samples("s", x)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.tensor([0, 1]), "3 samples but 2 labels"),
        (torch.tensor([0, -1, 1]), "y at index 1 is -1; labels must be 0 or more"),
        (torch.tensor([0.0, 1.0, 2.0]).double(), "y is float64"),
        (torch.tensor([0.0, float("nan"), 2.0]), "y at index .1,. is nan"),
        (torch.tensor([[0], [1], [-2]]), r"y at index \(2, 0\) is -2"),
    ],
)
def test_labels_that_are_none_are_refused(y: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Samples("s", torch.zeros(3, 1), y)


def test_a_label_without_a_class_is_refused() -> None:
    with pytest.raises(InputError, match=r"y at index 2 is 2; labels must be 0..1"):
        Samples("s", torch.zeros(3, 1), torch.tensor([0, 1, 2]), ("cat", "dog"))


# A user's own files


def test_an_npz_is_read_as_it_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    x = np.random.default_rng(0).integers(0, 256, (5, 1, 4, 4), dtype=np.uint8)
    np.savez(path, x=x, y=np.array([0, 1, 2, 1, 0], dtype=np.int32))
    samples = load_data(str(path))
    assert np.array_equal(samples.x.numpy(), x)
    assert samples.y is not None and samples.y.tolist() == [0, 1, 2, 1, 0]
    assert samples.classes == ("0", "1", "2")
    np.savez_compressed(path, x=x / 255)
    assert load_data(str(path)).x.dtype == torch.float32
    assert load_data(str(path)).y is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros(3)}, "no array 'x' in it, only images; name the samples x"),
        ({}, "no array 'x' in it, only nothing"),
        ({"x": np.array([{}, {}])}, "x holds objects, not plain numbers"),
        ({"x": np.zeros((2, 1)), "y": np.array([None, 1])}, "y holds objects, not plain"),
        ({"x": np.zeros((2, 1), dtype=np.int64)}, "x is int64; give uint8"),
        ({"x": np.array(["a", "b"])}, "x holds text, not plain"),
        ({"x": np.zeros((0, 1))}, "no samples"),
        ({"x": np.array(1.0)}, "no samples"),
        ({"x": np.full((2, 1), 1e300)}, r"x at index \(0, 0\) is inf"),
        ({"x": np.array([[0.0], [np.nan]])}, r"x at index \(1, 0\) is nan"),
        ({"x": np.zeros((2, 1)), "y": np.zeros(2, complex)}, "y holds complex"),
        ({"x": np.zeros((2, 1)), "y": np.zeros(3, dtype=int)}, "2 samples but 3 labels"),
        ({"x": np.zeros((2, 1)), "y": np.zeros(0, dtype=int)}, r"y is of shape \(0,\)"),
        ({"x": np.zeros((2, 1)), "y": np.array([0, -3])}, "y at index 1 is -3"),
        ({"x": np.zeros((2, 1)), "y": np.array([-1, -3])}, "y at index 0 is -1"),
    ],
)
def test_an_unusable_npz_says_where_and_what(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message) as caught:
        load_data(str(path))
    assert "own.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 broken"])
def test_a_file_that_is_no_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "own.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match="own.npz: cannot be read"):
        load_data(str(path))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_truncated_npz_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "own.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).random((50, 10)))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match="own.npz: cannot be read"):
        load_data(str(path))


def test_a_bare_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(InputError, match="one bare array"):
        load_data(str(path))


def save_image(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_subfolders_are_the_classes_of_an_image_folder(tmp_path: Path) -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    save_image(tmp_path / "cat" / "2.png", grey)
    save_image(tmp_path / "cat" / "1.png", grey + 100)
    save_image(tmp_path / "ant" / "1.png", grey + 200)
    (tmp_path / "ant" / "notes.txt").write_text("no image")
    (tmp_path / ".hidden").mkdir()
    samples = load_data(str(tmp_path))
    assert samples.classes == ("ant", "cat")
    assert samples.y is not None and samples.y.tolist() == [0, 1, 1]
    assert np.array_equal(samples.x[:, 0].numpy(), [grey + 200, grey + 100, grey])


def test_one_coloured_image_makes_all_coloured(tmp_path: Path) -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    colour = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    save_image(tmp_path / "a.png", grey)
    save_image(tmp_path / "b.png", colour)
    samples = load_data(str(tmp_path))
    assert samples.y is None and samples.classes == ()
    assert np.array_equal(samples.x[0].numpy(), [grey] * 3)
    assert np.array_equal(samples.x[1].numpy(), colour.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((3, 5), dtype=np.uint8), r"b.png: 5x3 pixels, but a.png has 4x3"),
        (np.zeros((3, 4, 4), dtype=np.uint8), r"b.png: its pixels are RGBA"),
        (np.zeros((3, 4), dtype=np.uint16), r"b.png: its pixels are I"),
    ],
)
def test_an_image_that_does_not_fit_is_named(
    tmp_path: Path, pixels: np.ndarray, message: str
) -> None:
    save_image(tmp_path / "a.png", np.zeros((3, 4), dtype=np.uint8))
    save_image(tmp_path / "b.png", pixels)
    with pytest.raises(InputError, match=message):
        load_data(str(tmp_path))


def test_folders_without_readable_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images in it"):
        load_data(str(tmp_path))
    save_image(tmp_path / "whole.png", np.zeros((30, 40), dtype=np.uint8))
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:50])
    with pytest.raises(InputError, match="half.png: not a readable image"):
        load_data(str(tmp_path))


# The files of the MNIST family


def test_idx_is_read_plain_and_compressed(tmp_path: Path) -> None:
    """Sizes 2 and 3, then six bytes."""
    content = b"\x00\x00\x08\x02" + b"\x00\x00\x00\x02" + b"\x00\x00\x00\x03" + bytes(range(6))
    path = tmp_path / "a"
    for written in (content, gzip.compress(content)):
        path.write_bytes(written)
        assert read_idx(path).tolist() == [[0, 1, 2], [3, 4, 5]]
    for broken, message in (
        (content[:-1], "5 elements where its header promises 6"),
        (content[:9], "not an IDX file"),
        (b"\x00\x00\x0d" + content[3:], "not an IDX file"),
        (gzip.compress(content)[:-9], "cannot be read"),
        (b"", "not an IDX file"),
    ):
        path.write_bytes(broken)
        with pytest.raises(InputError, match=message):
            read_idx(path)
