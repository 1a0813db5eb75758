"""Laws of synthetic speech: what spectra measure, who speaks where, how streams are put together."""

import io
import shutil
import stat
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from spikemorph.graph.errors import InputError
from spikemorph.zoo import fetch_data, load_data
from spikemorph.zoo.made import Made, keep
from spikemorph.zoo.sequences import spoken, synthesiser
from spikemorph.zoo.sequences.spectra import BANDS, HOP, RATE, heard, spectra
from spikemorph.zoo.sequences.synthesiser import Voice

VOICE = Voice("en-us", "m1", 160, 50)


def tone(hertz: float, seconds: float = 0.3, loudness: float = 1.0) -> np.ndarray:
    time = np.arange(int(RATE * seconds)) / RATE
    return np.rint(loudness * 32767 * np.sin(2 * np.pi * hertz * time)).astype(np.int16)


# Spectra


def test_a_tone_is_loud_in_its_own_band() -> None:
    """Band k peaks at mel (k + 1) / 25 of the way from 80 to 8000 Hz; a full-scale sine is near 255."""
    ends = 2595 * np.log10(1 + np.array([80, 8000]) / 700)
    for band in (3, 10, 20):
        mel = ends[0] + (band + 1) / (BANDS + 1) * (ends[1] - ends[0])
        middle = spectra(tone(700 * (10 ** (mel / 2595) - 1)))[8]
        assert middle.argmax() == band and middle[band] > 235
        assert np.delete(middle, [band - 1, band, band + 1]).max() < 100


def test_a_tone_between_two_bands_is_as_loud_in_both() -> None:
    """Triangles are straight in Hz: half way from peak to peak both are at one half."""
    mel = np.linspace(*(2595 * np.log10(1 + np.array([80, 8000]) / 700)), BANDS + 2)
    peaks = 700 * (10 ** (mel / 2595) - 1)
    for band in (8, 15, 21):
        middle = spectra(tone(peaks[band + 1 : band + 3].mean()))[8].astype(int)
        assert abs(middle[band] - middle[band + 1]) <= 1 and middle.argmax() in (band, band + 1)


def test_half_as_loud_is_six_decibels_less() -> None:
    """255 stands for 70 decibels; 20 log10(2) = 6.02, which is 21.9 steps."""
    whole, half = (spectra(tone(1000, loudness=share))[8].max() for share in (0.8, 0.4))
    assert abs(int(whole) - int(half) - 255 * 6.0206 / 70) <= 1


def test_silence_is_zero() -> None:
    assert not spectra(np.zeros(3 * HOP, np.int16)).any()
    assert heard(spectra(np.zeros(3 * HOP, np.int16))).shape == (0, BANDS)


def test_sounds_with_silence_between_are_heard_as_each_by_itself() -> None:
    """So that streams may be put together of spectra: frames see 40 ms, and silence is exactly zero."""
    draw = np.random.default_rng(0)
    words = [draw.integers(-9000, 9000, HOP * count).astype(np.int16) for count in (5, 8)]
    silence = np.zeros(6 * HOP, np.int16)
    together = spectra(np.concatenate([words[0], silence, words[1]]))
    first, second = (heard(spectra(word)) for word in words)
    start = int(np.flatnonzero(together.any(1))[0])
    assert np.array_equal(together[start : start + len(first)], first)
    assert np.array_equal(heard(together)[-len(second) :], second)
    between = len(heard(together)) - len(first) - len(second)
    assert not together[start + len(first) : start + len(first) + between].any() and between > 0


# The synthesiser


def program(folder: Path, script: str) -> str:
    """A folder with a program of that name in it, and nothing else."""
    path = folder / "espeak-ng"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(folder)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (None, "espeak-ng is not installed; install it: apt install espeak-ng"),
        ("exit 3", "espeak-ng failed with status 3"),
        ("echo something else", "espeak-ng does not tell its version"),
    ],
)
def test_speech_without_a_synthesiser_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str | None, message: str
) -> None:
    place = str(tmp_path) if script is None else program(tmp_path, script)
    monkeypatch.setenv("PATH", place)
    for name in ("spoken-digits:test", "spoken-digits-stream:train:3"):
        with pytest.raises(InputError, match=f"spoken-digits: {message}") as caught:
            load_data(name, home=tmp_path / "home")
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=message):
        fetch_data("spoken-digits", home=tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_a_synthesiser_with_other_voices_or_sounds_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", program(tmp_path, "echo ' 5 variant --/M Alex !v/Alex'"))
    synthesiser.require_speakers(frozenset({"Alex"}))
    with pytest.raises(InputError, match="espeak-ng has no speaker nobody, zac"):
        synthesiser.require_speakers(frozenset({"Alex", "zac", "nobody"}))
    sound = tone(440)
    for rate in (0, 16_000, RATE):
        with io.BytesIO() as content, wave.open(content, "wb") as file:
            file.setparams((1, 2, rate or RATE, 0, "NONE", ""))
            file.writeframes(sound.tobytes())
            (tmp_path / "sound.wav").write_bytes(content.getvalue() if rate else b"")
        program(tmp_path, f"/bin/cat {tmp_path / 'sound.wav'}")
        if rate == RATE:
            assert np.array_equal(synthesiser.spoken("one", VOICE), sound)
        else:
            with pytest.raises(InputError, match="gave no sound of 22050 .* for 'one' by m1"):
                synthesiser.spoken("one", VOICE)


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_the_synthesiser_says_the_same_again_and_knows_all_speakers() -> None:
    sound = synthesiser.spoken("seven", VOICE)
    assert np.array_equal(sound, synthesiser.spoken("seven", VOICE))
    assert 5 < len(heard(spectra(sound))) < 48
    assert not np.array_equal(sound, synthesiser.spoken("seven", Voice("en-us", "f1", 160, 50)))
    synthesiser.require_speakers(frozenset(s for split in spoken._SPEAKERS.values() for s in split))
    assert synthesiser.synthesiser().startswith("espeak-ng ")


# What is made of it


def said(word: str, voice: Voice) -> np.ndarray:
    """A tone in place of a word: the digit tells how high it is, the voice how long and loud."""
    digit, accent = spoken._WORDS.index(word), spoken._ACCENTS.index(voice.accent)
    loudness = 0.9 / (1 + [s[0] for s in spoken._SPEAKERS.values()].count(voice.speaker))
    return tone(300.0 * 1.3**digit, voice.rate / 1000 + 0.2 * accent, loudness)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The files of two speakers a split, by a synthesiser of tones."""
    few = {name: tuple(who[:2]) for name, who in spoken._SPEAKERS.items()}
    monkeypatch.setattr(spoken, "_SPEAKERS", few)
    monkeypatch.setattr(spoken, "_STREAMS", dict.fromkeys(few, 18))
    monkeypatch.setattr(spoken, "spoken", said)
    monkeypatch.setattr(spoken, "require_speakers", lambda wanted: None)
    made = Made("spoken-digits", spoken._MADE.files, lambda: "tones 1", spoken._make)
    return keep(made, tmp_path)


def test_no_speaker_is_in_two_splits() -> None:
    every = [speaker for speakers in spoken._SPEAKERS.values() for speaker in speakers]
    assert len(set(every)) == len(every) == 40
    counts = {name: split.count for name, split in spoken.SPOKEN_DIGITS.splits.items()}
    voices = {name: len(set(spoken._voices(name))) for name in counts}
    assert counts == {name: 10 * count for name, count in voices.items()}


def test_words_are_spectra_of_what_was_said(folder: Path) -> None:
    assert folder.name == "tones 1"
    for split in spoken._SPEAKERS:
        found = spoken._read_words(split, folder)
        voices = list(spoken._voices(split))
        assert len(found.x) == 10 * len(voices) and found.made_by == "tones 1"
        assert found.y.tolist() == list(range(10)) * len(voices)
        assert found.lengths is not None
        for index in (0, 7, len(found.x) - 1):
            frames = heard(spectra(said(spoken._WORDS[index % 10], voices[index // 10])))
            assert found.lengths[index] == len(frames)
            assert np.array_equal(found.x[index, : len(frames)].numpy(), frames)
            assert not found.x[index, len(frames) :].any()


def test_streams_are_words_of_one_voice_with_silence_between(folder: Path) -> None:
    words, streams = (read("test", folder) for read in (spoken._read_words, spoken._read_streams))
    assert words.lengths is not None and streams.x.shape == (18, 1500, BANDS)
    assert torch.equal(streams.y == 10, (streams.x == 0).all(2))
    for x, y in zip(streams.x, streams.y, strict=True):
        cuts = [0, *(torch.nonzero(y[1:] != y[:-1])[:, 0] + 1).tolist(), len(y)]
        runs = [(int(y[a]), a, b) for a, b in zip(cuts, cuts[1:], strict=False)]
        assert [label == 10 for label, _, _ in runs] == [k % 2 == 0 for k in range(len(runs))]
        assert all(15 <= b - a <= 100 for label, a, b in runs[:-1] if label == 10)
        fits = None
        for label, a, b in runs:
            if label != 10:
                same = {
                    v
                    for v in range(len(words.x) // 10)
                    if words.lengths[10 * v + label] == b - a
                    and torch.equal(words.x[10 * v + label, : b - a], x[a:b])
                }
                fits = same if fits is None else fits & same
        assert fits


def test_words_that_were_damaged_are_to_be_made_again(folder: Path) -> None:
    path = folder / "test.npz"
    for content in (path.read_bytes()[:-30], b""):
        path.write_bytes(content)
        for read in (spoken._read_words, spoken._read_streams):
            with pytest.raises(InputError, match="test.npz: not the words .* delete it"):
                read("test", folder)
    np.savez(path, x=np.zeros((1, 48, BANDS), np.uint8), y=np.zeros(1, int))
    with pytest.raises(InputError, match="test.npz: not the words .* delete it"):
        spoken._read_words("test", folder)


def test_a_word_that_cannot_be_one_is_refused(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    for sound, frames in ((tone(500, 2.0), "10[0-9]"), (np.zeros(9, np.int16), "0")):
        monkeypatch.setattr(spoken, "spoken", lambda word, voice, sound=sound: sound)
        with pytest.raises(
            InputError, match=f"'one' by m1 takes {frames} frames, should be 1 to 48"
        ):
            spoken._heard("one", VOICE)


# Files that are made once


def test_files_are_made_once_for_each_version_of_their_maker(tmp_path: Path) -> None:
    told: list[str] = []
    made: list[str] = []

    def wanted(version: str) -> Made:
        def make() -> dict[str, bytes]:
            made.append(version)
            return {"a": version.encode(), "b": b""}

        return Made("thing", ("a", "b"), lambda: f"maker {version}", make)

    for version in ("1", "1", "2", "1"):
        folder = keep(wanted(version), tmp_path, told.append)
        assert (
            folder / "a"
        ).read_text() == version and folder == tmp_path / "thing" / f"maker {version}"
    assert made == ["1", "2"]
    assert told == ["thing: being made by maker 1", "thing: being made by maker 2"]
    (tmp_path / "thing" / "maker 2" / "b").unlink()
    keep(wanted("2"), tmp_path)
    assert made == ["1", "2", "2"]


def test_what_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    def fails() -> dict[str, bytes]:
        raise InputError("no voice")

    with pytest.raises(InputError, match="thing: no voice"):
        keep(Made("thing", ("a",), lambda: "maker 1", fails), tmp_path)
    assert not list(tmp_path.iterdir())
