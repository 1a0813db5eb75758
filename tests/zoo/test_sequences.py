"""Laws of the sequence data sets: each is what its rule says, and refuses what it cannot be made of."""

import pickle
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.interpolate import interp1d
from scipy.ndimage import gaussian_filter

from spikemorph.graph.errors import InputError
from spikemorph.zoo import load_data
from spikemorph.zoo.mnist import MNIST
from spikemorph.zoo.sequences import SEQUENCES, mnist_1d, moving, pixels, text_lines, vowels, watch
from spikemorph.zoo.sequences.draws import Draws
from spikemorph.zoo.sequences.padding import padded

BY_NAME = {entry.name: entry for entry in SEQUENCES}


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


@pytest.fixture
def few_of_mnist(tmp_path: Path) -> Path:
    """A folder as the cache holds it, of four images a part."""
    draw = np.random.default_rng(0)
    for part in ("train", "t10k"):
        images = draw.integers(0, 256, (4, 28, 28))
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.array([3, 1, 4, 1])))
    return tmp_path


# Draws


def test_draws_are_whole_numbers_in_their_range_and_the_same_again() -> None:
    drawn = Draws(1, 2).between(-2, 3, 500)
    assert set(drawn.tolist()) == {-2, -1, 0, 1, 2, 3}
    assert np.array_equal(drawn, Draws(1, 2).between(-2, 3, 500))
    assert not np.array_equal(drawn, Draws(1, 3).between(-2, 3, 500))
    assert sorted(Draws(5).order(50).tolist()) == list(range(50))


def test_draws_follow_the_raw_stream() -> None:
    """The upper 32 bits of each number, as a share of the limit; an order sorts the numbers."""
    raw = [int(n) for n in np.random.PCG64([7]).random_raw(20)]
    assert Draws(7).below(10, 4, 5).flatten().tolist() == [(n >> 32) * 10 >> 32 for n in raw]
    assert Draws(7).order(20).tolist() == sorted(range(20), key=lambda index: raw[index])


def test_padding_keeps_sequences_and_their_lengths() -> None:
    x, lengths = padded([np.ones((2, 3)), np.full((4, 3), 2.0)], 5)
    assert x.shape == (2, 5, 3) and lengths.tolist() == [2, 4]
    assert x.sum((1, 2)).tolist() == [6, 24] and x[0, 2:].abs().sum() == 0


# MNIST as sequences


def test_sequences_of_mnist_are_its_pixels_in_their_order(few_of_mnist: Path) -> None:
    for part, split in MNIST.splits.items():
        images = split.read(few_of_mnist)
        found = {
            n: BY_NAME[n].splits[part] for n in ("mnist-sequence", "mnist-permuted", "mnist-rows")
        }
        assert {(s.count, s.tests) for s in found.values()} == {(split.count, split.tests)}
        by_pixel, permuted, by_row = (s.read(few_of_mnist) for s in found.values())
        assert torch.equal(by_pixel.y, images.y)
        assert torch.equal(by_pixel.x.reshape(4, 1, 28, 28), images.x)
        assert torch.equal(by_row.x, images.x[:, 0])
        back = torch.empty_like(permuted.x)
        back[:, pixels.permutation()] = permuted.x
        assert torch.equal(back, by_pixel.x)


def test_another_permutation_is_refused(
    monkeypatch: pytest.MonkeyPatch, few_of_mnist: Path
) -> None:
    assert sorted(pixels.permutation().tolist()) == list(range(784))
    monkeypatch.setattr(pixels, "_SEED", 1)
    with pytest.raises(InputError, match="mnist-permuted: its permutation has sha256"):
        BY_NAME["mnist-permuted"].splits["test"].read(few_of_mnist)


def test_a_moving_digit_moves_over_what_stands_still(few_of_mnist: Path) -> None:
    """Every video begins and ends in rest; where the digit is not, all frames are the same."""
    digits = MNIST.splits["train"].read(few_of_mnist)
    found = moving._read("train", "train", 1, 3, few_of_mnist)
    assert found.x.shape == (3, 20, 1, 48, 48) and torch.equal(found.y, digits.y[1:4])
    places = moving._paths(Draws(2026, 1), 3)
    many = moving._paths(Draws(1), 300)
    assert many.min() == 0 and many.max() == 20 and np.abs(np.diff(many, axis=1)).max() == 2
    assert (places[:, -1] == places[:, -2]).all() and (places[:, 0] != places[:, -1]).any()
    for video, digit, path in zip(found.x[:, :, 0], digits.x[1:4, 0], places, strict=True):
        still = torch.ones(20, 48, 48, dtype=torch.bool)
        for frame, there, (row, column) in zip(video, still, path, strict=True):
            box = slice(row, row + 28), slice(column, column + 28)
            assert torch.equal(frame[box].clamp(min=64), digit.clamp(min=64))
            there[box] = False
        background = (video * still).amax(0)
        assert torch.equal(torch.where(still, video, background), background.expand_as(video))
        assert background.max() < 64


# MNIST-1D


def test_mnist_1d_follows_its_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the rule as it is told, step by step, with the filters of scipy; for few samples."""
    monkeypatch.setattr(mnist_1d, "_COUNT", 40)
    found, labels = mnist_1d._made.__wrapped__()
    draw = np.random.RandomState(42)

    def at(x: np.ndarray, count: int) -> np.ndarray:
        place = np.linspace(0, 1, len(x))
        return np.asarray(interp1d(place, x)(np.linspace(0, 1, count)))

    made = []
    for template in mnist_1d._TEMPLATES:
        x = template - template.mean()
        x = x / x.std()
        x = (x - x[0]) / 6
        for _ in range(4):
            z = np.concatenate([x + 1e-8, np.zeros(36 + int(draw.rand() * 25))])
            z = at(z, 72) * (1 + 0.4 * (draw.rand() - 0.5))
            shift = draw.choice(48)
            z = np.concatenate([z[-shift:], z[:-shift]])
            z = np.where(z == 0, gaussian_filter(0.25 * draw.randn(72), 2), z)
            z = z + 0.02 * draw.randn(72)
            z = z - 0.75 * (draw.rand() - 0.5) * np.linspace(-0.5, 0.5, 72)
            made.append(at(z, 40))
    order = draw.permutation(40)
    wanted = np.stack(made)[order]
    assert np.abs(found - (wanted - wanted.mean()) / wanted.std()).max() < 1e-12
    assert labels.tolist() == (order // 4).tolist()


# Japanese vowels


def vowels_of(*lines: str) -> str:
    return "# what it is\n@problemName JapaneseVowels\n@data\n" + "".join(f"{n}\n" for n in lines)


def test_utterances_are_read_channel_by_channel(tmp_path: Path) -> None:
    """Channel c of utterance u holds u + c / 10 + element / 1000."""
    lines = [
        ":".join(",".join(f"{u + c / 10 + e / 1000:.3f}" for e in range(u + 2)) for c in range(12))
        + f":{u + 1}"
        for u in range(3)
    ]
    (tmp_path / vowels._TEST).write_text(vowels_of(*lines))
    found = BY_NAME["japanese-vowels"].splits["test"].read(tmp_path)
    assert found.lengths is not None and found.lengths.tolist() == [2, 3, 4]
    assert found.y.tolist() == [0, 1, 2] and found.x.shape == (3, 29, 12)
    assert found.x[2, 3, 11].item() == pytest.approx(2 + 1.1 + 0.003)
    assert found.x[2, 4:].abs().sum() == 0


@pytest.mark.parametrize(
    "line",
    [
        *(
            ":".join(["1,2"] * 11) + ":1",
            ":".join(["1,2"] * 12) + ":10",
            ":".join(["1"] * 12) + ":0",
        ),
        *(":".join(["1,x"] * 12) + ":1", ":".join([*["1,2"] * 11, "1"]) + ":1", "", "1"),
        *(":".join([",".join(["0"] * 30)] * 12) + ":1", "\udcff"),
        ":".join([*["1,2"] * 11, "1,1e39"]) + ":1",
    ],
)
def test_a_damaged_file_of_vowels_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / vowels._TEST
    path.write_bytes(vowels_of(line).encode(errors="surrogateescape"))
    with pytest.raises(InputError, match="JapaneseVowels_TEST.ts: cannot be read") as caught:
        BY_NAME["japanese-vowels"].splits["test"].read(tmp_path)
    assert "\n" not in str(caught.value)


# Smartwatch


def recording(index: int) -> np.ndarray:
    """120 elements or more; axis a of element e holds index + a / 10 + e / 1000."""
    elements = np.arange(120 + index)[:, None]
    return np.asfortranarray(index + np.arange(6) / 10 + elements / 1000)


def watch_file(**changes: object) -> bytes:
    """What the data set's file is: a pickle of arrays behind a header."""
    held: dict[str, object] = {
        "X": [recording(index) for index in range(140)],
        "y_labels": ["PEN", "ABD"],
        "y": np.arange(140) % 7,
        "subject": np.arange(140) % 10 + 1,
        "side": np.arange(140) % 2 * 1.0,
        **changes,
    }
    header = b"\x93NUMPY\x01\x00v\x00" + b" " * 117 + b"\n"
    return header + pickle.dumps(np.array([held], dtype=object), protocol=2)


def test_recordings_are_split_by_person(tmp_path: Path) -> None:
    (tmp_path / watch._FILE).write_bytes(watch_file())
    seen: dict[str, set[int]] = {}
    for name, people in {
        "train": {1, 2, 3, 4, 5, 6},
        "validation": {7, 8},
        "test": {9, 10},
    }.items():
        whole = BY_NAME["smartwatch-whole"].splits[name].read(tmp_path)
        assert whole.lengths is not None
        indices = whole.x[:, 0, 0].round().long()
        assert {int(i) % 10 + 1 for i in indices} == people
        assert torch.equal(whole.y, indices % 7) and torch.equal(whole.lengths, 120 + indices)
        for x, index, length in zip(whole.x, indices.tolist(), whole.lengths.tolist(), strict=True):
            assert torch.equal(x[:length], torch.from_numpy(recording(index)).float())
        windows = BY_NAME["smartwatch"].splits[name].read(tmp_path)
        cut = [
            x[s : s + 100]
            for x, n in zip(whole.x, whole.lengths, strict=True)
            for s in range(0, n - 99, 50)
        ]
        assert torch.equal(windows.x, torch.stack(cut))
        seen[name] = set(windows.x[:, 0, 0].floor().tolist())
    assert not any(a & b for a, b in pairwise(seen.values()))


def with_one(shape: tuple[int, int]) -> list[np.ndarray]:
    """All recordings, one of them of another shape."""
    return [np.zeros(shape) if index == 8 else recording(index) for index in range(140)]


class Boom:
    """Writes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def test_nothing_of_a_pickle_is_carried_out(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    pickle.loads(pickle.dumps(Boom(mark)))
    assert mark.exists()
    mark.unlink()
    (tmp_path / watch._FILE).write_bytes(watch_file(more=Boom(mark)))
    BY_NAME["smartwatch"].splits["test"].read(tmp_path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"no pickle", watch_file()[:500_000], watch_file()[:-400]),
        *(watch_file(X=[]), watch_file(X=[recording(0)] * 139), watch_file(subject=np.arange(139))),
        *(watch_file(X=with_one((3000, 6))), watch_file(X=with_one((200, 5)))),
    ],
    ids=["empty", "other", "cut", "end", "none", "fewer", "subjects", "long", "axes"],
)
def test_a_damaged_file_of_recordings_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / watch._FILE).write_bytes(content)
    with pytest.raises(InputError, match="watch_dataset.npy: cannot be read") as caught:
        BY_NAME["smartwatch"].splits["test"].read(tmp_path)
    assert "\n" not in str(caught.value)


# Text lines


def test_text_lines_are_written_and_labelled_alike() -> None:
    """Labels tell six digits, class 0 is no letter; a line is ink on paper, then white."""
    found = text_lines._read("test", 12, Path())
    classes = BY_NAME["text-lines"].classes
    assert classes[0] == "" and classes[1:] == tuple(text_lines.ALPHABET)
    assert len(set(classes)) == len(classes) == 122
    texts = ["".join(classes[letter] for letter in line) for line in found.y.tolist()]
    assert all(len(text) == 6 and text.isdecimal() for text in texts)
    assert found.label_lengths is not None and found.label_lengths.tolist() == [6] * 12
    assert found.lengths is None and "Pillow" in found.made_by
    assert found.x.shape == (12, 1, 32, 148) and found.x.dtype == torch.uint8
    for line in found.x[:, 0]:
        assert line[:, 0].min() >= 176 and line[:, 0].max() == line[:, 0].min()
        assert line.min() <= 80 + 10 and (line[:, -1] == 255).all()
    again = text_lines._read("test", 12, Path())
    assert torch.equal(again.x, found.x)


def test_equal_strings_are_written_alike_only_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """No string is in two splits, and no string twice in one."""
    order = Draws(text_lines._SEED).order(10**6)
    parts = []
    for name, split in BY_NAME["text-lines"].splits.items():
        start = text_lines._STARTS[name]
        parts.append(set(order[start : start + split.count].tolist()))
        assert len(parts[-1]) == split.count
    assert not (parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2])


def test_a_pillow_without_its_font_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.features.check", lambda name: False)
    with pytest.raises(InputError, match="text-lines: this Pillow was built without FreeType"):
        load_data("text-lines:test:5")


# All of them


@pytest.mark.parametrize("entry", SEQUENCES, ids=lambda entry: entry.name)
def test_each_set_can_be_tested_and_learnt_from(entry: object) -> None:
    """One split is for testing; the others are not."""
    (found,) = (one for one in SEQUENCES if one is entry)
    flags: Mapping[str, bool] = {name: split.tests for name, split in found.splits.items()}
    assert flags["test"] and not any(tests for name, tests in flags.items() if name != "test")
    assert "train" in flags and found.summary and found.licence and found.citation
