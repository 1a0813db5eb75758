"""State dicts that do harm, or ask for more memory than they hold."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from spikemorph.convert.readers.state_dicts import read_state_dict
from spikemorph.graph import InputError


def archive(path: Path, pickled: bytes, **more: bytes) -> Path:
    """A file as torch.save writes it, around another pickle."""
    with zipfile.ZipFile(path, "w") as out:
        for name, content in {"data.pkl": pickled, "byteorder": b"little", **more}.items():
            out.writestr(f"archive/{name}", content)
        out.writestr("archive/version", b"3\n")
    return path


class Runs:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("protocol", [2, 4])
def test_nothing_in_it_runs(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "mark"
    path = archive(tmp_path / "state.pt", pickle.dumps({"a": Runs(mark)}, protocol=protocol))
    with pytest.raises(InputError, match="not a plain state dict: it names"):
        read_state_dict(path)
    assert not mark.exists()


def test_it_makes_no_buffers_of_any_length(tmp_path: Path) -> None:
    for asked in (b"c__builtin__\nbytearray\n", b"ctorch.storage\nUntypedStorage\n"):
        text = b"\x80\x02}X\x01\x00\x00\x00a" + asked + b"\x8a\x04\x00\x00\x00\x04\x85Rs."
        with pytest.raises(InputError, match="not a plain state dict: it names"):
            read_state_dict(archive(tmp_path / "state.pt", text))


def longer(path: Path, count: int, stride: int) -> Path:
    """A state whose tensor of 3 numbers claims `count`, so far from each other."""
    torch.save({"a": torch.arange(3.0)}, path)
    with zipfile.ZipFile(path) as source:
        members = {n.partition("/")[2]: source.read(n) for n in source.namelist()}
    pickled = members.pop("data.pkl")
    claimed = b"J" + count.to_bytes(4, "little")
    at = pickled.index(b"K\x03\x85")  # the size, a tuple of one
    changed = pickled[:at] + claimed + pickled[at + 2 :].replace(b"K\x01\x85", b"K%c\x85" % stride)
    members = {"data.pkl": changed, **members}
    with zipfile.ZipFile(path, "w") as out:
        for name, content in members.items():
            out.writestr(f"archive/{name}", content)
    return path


def test_tensors_lie_within_the_file(tmp_path: Path) -> None:
    assert read_state_dict(longer(tmp_path / "same.pt", 3, 1))["a"].tolist() == [0, 1, 2]
    with pytest.raises(InputError, match="not a plain state dict"):
        read_state_dict(longer(tmp_path / "long.pt", 10**6, 1))
    with pytest.raises(InputError, match="tensor 'a' repeats 3 numbers"):
        read_state_dict(longer(tmp_path / "wide.pt", 10**6, 0))


def test_a_file_cut_or_changed_anywhere_is_refused_or_the_same(tmp_path: Path) -> None:
    content = io.BytesIO()
    torch.save({"a": torch.arange(3.0)}, content)
    whole, path = content.getvalue(), tmp_path / "state.pt"
    for at in range(0, len(whole), 7):
        for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :]):
            path.write_bytes(damaged)
            try:
                found = read_state_dict(path)
            except InputError:
                continue
            assert torch.equal(found["a"], torch.arange(3.0))


def test_a_long_pickle_is_not_interpreted(tmp_path: Path) -> None:
    text = b"\x80\x02}" + b"0}" * 2**21 + b"."
    with pytest.raises(InputError, match="more than tensors and their names"):
        read_state_dict(archive(tmp_path / "state.pt", text))
