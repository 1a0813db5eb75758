"""The fuzz harness can find: what no file may make a command do is caught, each by its kind."""

import contextlib
import os
import subprocess
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from fuzz import zips
from fuzz.campaign import Standing, carry_out, shares
from fuzz.inputs import Loader, drawn, made
from fuzz.raw import damaged
from fuzz.trial import reduced, tried
from fuzz.watch import PAYLOAD
from fuzz.workers import Budget

from spikemorph.graph import InputError


def evaluates(folder: Path) -> None:
    with contextlib.suppress(Exception):
        eval((folder / "f").read_text())


def compiles(folder: Path) -> None:
    with contextlib.suppress(Exception):
        compile((folder / "f").read_text(), "f", "exec")


def loops(folder: Path) -> None:
    while True:
        pass


def loops_in_native_code(folder: Path) -> None:
    10 ** (10**9)


def waits(folder: Path) -> None:
    time.sleep(1000)


def raises(folder: Path) -> None:
    raise KeyError("field")


def writes_outside(folder: Path) -> None:
    with contextlib.suppress(OSError):
        (folder.parent / "new").write_text("x")


def writes_outside_natively(folder: Path) -> None:
    torch.from_file(str(folder.parent / "new"), shared=True, size=4)


def reads_outside(folder: Path) -> None:
    Path("/etc/hostname").read_text()


def reads_outside_natively(folder: Path) -> None:
    torch.from_file(str(folder.parent / "canary.bin"), shared=False, size=4)


def removes(folder: Path) -> None:
    (folder.parent / "canary.bin").unlink()


def forks(folder: Path) -> None:
    if os.fork() == 0:
        os._exit(0)


def starts(folder: Path) -> None:
    subprocess.run(["true"], check=False)


def shells(folder: Path) -> None:
    os.system("true")


def connects(folder: Path) -> None:
    __import__("socket").create_connection(("127.0.0.1", 9), timeout=0.1)


def takes_memory(folder: Path) -> None:
    try:
        np.ones(2**29)
    except MemoryError as error:
        raise InputError(f"f: cannot be read ({error})") from error


def takes_memory_quietly(folder: Path) -> None:
    torch.ones(2**29)


def warns(folder: Path) -> None:
    warnings.warn("odd", UserWarning, stacklevel=1)


def prints(folder: Path) -> None:
    os.write(2, b"something went wrong\n")


def says_two_lines(folder: Path) -> None:
    os.write(2, b"error: f: damaged, and more\n")
    raise InputError("f: damaged; write it again")


def crashes(folder: Path) -> None:
    os.abort()


def leaves(folder: Path) -> None:
    raise SystemExit(7)


def works(folder: Path) -> None:
    (folder / "out").write_text((folder / "f").read_text())


def refuses(folder: Path) -> None:
    raise InputError("f: damaged; write it again")


def row(act: Callable[[Path], None], text: str = "1 + 1") -> dict[str, Loader]:
    return {"it": Loader("it", lambda: {"seed": {"f": text.encode()}}, (), (act,), 1)}


def end_of(act: Callable[[Path], None], text: str = "1 + 1") -> str:
    ((_, end),) = tried(row(act), [("it", {"f": text.encode()}, 0)], Budget(0.5, 4.0))
    return end.kind


@pytest.mark.parametrize(
    ("act", "kind"),
    [
        *((loops, "overtime"), (loops_in_native_code, "overtime"), (waits, "overtime")),
        *((raises, "exception"), (leaves, "exception"), (crashes, "crash")),
        *((writes_outside, "trespass"), (writes_outside_natively, "trespass")),
        *((reads_outside, "trespass"), (reads_outside_natively, "trespass"), (removes, "trespass")),
        *((forks, "trespass"), (starts, "trespass"), (shells, "trespass"), (connects, "trespass")),
        *((takes_memory, "memory"), (takes_memory_quietly, "memory")),
        *((warns, "warning"), (prints, "noise"), (says_two_lines, "unclear")),
        *((works, "worked"), (refuses, "refused")),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_every_kind_of_fault_is_caught(act: Callable[[Path], None], kind: str) -> None:
    assert end_of(act) == kind


@pytest.mark.parametrize("act", [evaluates, compiles])
def test_a_file_that_is_run_is_caught(act: Callable[[Path], None]) -> None:
    assert end_of(act, PAYLOAD) == "trespass"
    assert end_of(act) == "worked"


def stops_at_a_mark(folder: Path) -> None:
    if b"\xff" in (folder / "f").read_bytes():
        raise KeyError("mark")


def test_inputs_are_the_same_again_and_campaigns_go_on(tmp_path: Path) -> None:
    table = row(stops_at_a_mark, "a" * 200)
    loader = table["it"]
    twice = [[made(loader, drawn(loader, 3, k)) for k in range(40)] for _ in range(2)]
    assert twice[0] == twice[1] != [made(loader, drawn(loader, 4, k)) for k in range(40)]
    first = carry_out(table, 20, 3, tmp_path / "a", lambda _: None)
    assert first.done == {"it": 20}
    again = carry_out(table, 60, 3, tmp_path / "a", lambda _: None)
    whole = carry_out(table, 60, 3, tmp_path / "b", lambda _: None)
    assert again.ends == whole.ends and again.done == {"it": 60}
    assert whole.findings and list((tmp_path / "b" / "findings").iterdir())
    with pytest.raises(SystemExit, match="seed 3"):
        Standing.read(tmp_path / "a" / "standing.json", 4)


def test_a_finding_is_made_small() -> None:
    table = row(stops_at_a_mark, "a" * 500)
    recipes = [drawn(table["it"], 0, k) for k in range(300)]
    recipe = next(r for r in recipes if len(r.steps) > 1 and b"\xff" in made(table["it"], r)["f"])
    ((_, end),) = tried(table, [recipe])
    files, _ = reduced(table, recipe, end)
    assert b"\xff" in files["f"] and len(files["f"]) < len(made(table["it"], recipe)["f"])


def test_every_loader_has_its_share() -> None:
    table = {**row(works), "other": Loader("other", dict, (), (works,), 3)}
    assert shares(table, 100) == {"it": 25, "other": 75}


def test_damages_differ() -> None:
    whole = b"0123456789" * 9
    changed = [damaged(whole, Random(number)) for number in range(200)]
    assert sum(one != whole for one in changed) > 190 and len(set(changed)) > 150


def test_archives_are_written_as_zipfile_reads_them() -> None:
    members = tuple(zips.Member(f"a/{k}".encode(), bytes(k * 100), k % 2 == 0) for k in range(4))
    assert zips.unzipped(zips.zipped(zips.Archive(members))).members == members
