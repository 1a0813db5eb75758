"""Files and places that would do harm: nothing in a file is run, no device or link is replaced."""

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import refused
from torch import Tensor, nn

from spikemorph.convert import read_pt2
from spikemorph.graph import InputError, UnsupportedError
from spikemorph.graph.saving import write_bytes

Run = Callable[..., tuple[int, str, str]]


class Changing(nn.Module):
    """Changes its values in place, and computes with constants."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.register_buffer("table", torch.arange(8.0).reshape(2, 4))

    def forward(self, x: Tensor) -> Tensor:
        made = torch.zeros(4) + self.table.sum(0)
        y = self.head(x + made * 0)
        y.add_(1)
        return torch.relu_(y)


@pytest.fixture
def tampered(tmp_path: Path) -> Callable[[Callable[[Any], None]], Path]:
    """An exported program whose description was changed."""

    def change(edit: Callable[[Any], None]) -> Path:
        good, evil = tmp_path / "good.pt2", tmp_path / "evil.pt2"
        program = torch.export.export(Changing().eval(), (torch.zeros(2, 4),))
        torch.export.save(program, good)
        with zipfile.ZipFile(good) as source, zipfile.ZipFile(evil, "w") as out:
            for name in source.namelist():
                content = source.read(name)
                if name.endswith("models/model.json"):
                    plain = json.loads(content)
                    edit(plain)
                    content = json.dumps(plain).encode()
                out.writestr(name, content)
        return evil

    return change


def nodes(plain: Any) -> list[Any]:
    return list(plain["graph_module"]["graph"]["nodes"])


def test_an_honest_program_is_read(tampered: Callable[..., Path]) -> None:
    assert read_pt2(tampered(lambda plain: None)).outputs


def test_guards_are_not_executed(tampered: Callable[..., Path], tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    def edit(plain: Any) -> None:
        plain["guards_code"] = [f"__import__('pathlib').Path({str(mark)!r}).touch() or True"]

    with pytest.raises(InputError, match="guards to execute"):
        read_pt2(tampered(edit))
    assert not mark.exists()


def test_constants_are_not_computed_by_what_touches_files(
    tampered: Callable[..., Path], tmp_path: Path
) -> None:
    mark = tmp_path / "mark"

    def edit(plain: Any) -> None:
        node = next(n for n in nodes(plain) if n["target"].startswith("torch.ops.aten.zeros"))
        node["target"] = "torch.ops.aten.from_file.default"
        node["inputs"] = [
            {"name": "filename", "arg": {"as_string": str(mark)}, "kind": 1},
            {"name": "shared", "arg": {"as_bool": True}, "kind": 1},
            {"name": "size", "arg": {"as_int": 4}, "kind": 1},
        ]

    with pytest.raises(UnsupportedError, match="from_file.*computed on constants"):
        read_pt2(tampered(edit))
    assert not mark.exists()


@pytest.mark.parametrize("target", ["torch.os.system", "os.system", "builtins.eval", "torch.load"])
def test_calls_are_operators(tampered: Callable[..., Path], target: str) -> None:
    def edit(plain: Any) -> None:
        nodes(plain)[0]["target"] = target

    with pytest.raises(InputError, match=f"calls '{target}'"):
        read_pt2(tampered(edit))


def test_links_stay_links_and_pipes_pipes(spikemorph: Run, tmp_path: Path) -> None:
    real, link, pipe = (tmp_path / name for name in ("real.json", "link.json", "pipe"))
    real.write_text("old")
    link.symlink_to(real)
    os.mkfifo(pipe)
    assert spikemorph("zoo", "list", "--json", link)[0] == 0
    assert link.is_symlink() and json.loads(real.read_text())
    refused(spikemorph("zoo", "list", "--json", pipe), "pipe", "no plain file")
    assert pipe.is_fifo()
    (tmp_path / "round").symlink_to(tmp_path / "round")
    with pytest.raises(InputError):
        write_bytes(tmp_path / "round", b"x")
    assert {path.name for path in tmp_path.iterdir()} == {"real.json", "link.json", "pipe", "round"}
