"""Ctrl-C ends in one line at any time, and so does memory that cannot be had."""

import contextlib
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import refused

from spikemorph.cli import program
from spikemorph.cli.shortage import shortage
from spikemorph.sources import memory

Run = Callable[..., tuple[int, str, str]]
STAGES = (  # what is mapped into the process when it is reached, and how much later it is stopped
    ("libtorch_cpu", 0.0),
    ("libtorch_python", 0.02),
    ("/numpy/_core/", 0.2),
    ("/safetensors/", 0.0),
    ("/onnx/", 0.5),
)


def started(*words: object, limit: int | None = None) -> subprocess.Popen[str]:
    def settle() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    return subprocess.Popen(
        [sys.executable, "-m", "spikemorph", *map(str, words)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=settle,
    )  # fmt: skip


def reaches(process: subprocess.Popen[str], library: str) -> bool:
    """Whether the process has mapped the library; False where it ended before."""
    while process.poll() is None:
        with contextlib.suppress(OSError):
            if library in Path(f"/proc/{process.pid}/maps").read_text():
                return True
        time.sleep(0.005)
    return False


def interrupted(process: subprocess.Popen[str], times: int = 1) -> tuple[int, str]:
    for _ in range(times):
        process.send_signal(signal.SIGINT)
    try:
        said = process.communicate(timeout=120)[1]
    finally:
        process.kill()
    return process.returncode, said


@pytest.mark.parametrize(("stage", "later"), STAGES)
def test_while_modules_load_or_just_after(stage: str, later: float) -> None:
    process = started("evaluate", "zoo:fashion_robust_99_snn", "--data", "fashion-mnist:sample")
    if not reaches(process, stage):
        pytest.fail(f"{stage} was never loaded: {process.communicate()[1]}")
    time.sleep(later)
    status, said = interrupted(process)
    assert (status, said.strip()) == (130, "stopped; nothing was half-written")


def test_while_it_works_and_twice(tmp_path: Path) -> None:
    x, y = np.zeros((400, 1, 8, 8), np.uint8), np.arange(400) % 10
    np.savez(tmp_path / "x.npz", x=x, y=y)
    for times in (1, 2):
        out = tmp_path / f"{times}.safetensors"
        process = started(
            "prune", "zoo:digits_mlp", "--data", tmp_path / "x.npz", "--sparsity", "0.5",
            "--epochs", "100000", "--checkpoint", tmp_path / f"{times}.ck", "--out", out,
        )  # fmt: skip
        while not (tmp_path / f"{times}.ck").exists() and process.poll() is None:
            time.sleep(0.01)
        status, said = interrupted(process, times)
        assert status == 130
        assert "Traceback" not in said and said.strip().endswith("nothing was half-written")
        assert not out.exists()


def test_while_text_is_executed_as_a_dataclass_does(tmp_path: Path) -> None:
    made = "import types\nfrom spikemorph import start\ntext = 'raise KeyboardInterrupt'\n"
    made += "start.import_module = lambda _: types.SimpleNamespace(main=lambda: exec(text))\n"
    (tmp_path / "made.py").write_text(f"{made}raise SystemExit(start.main())\n")
    done = subprocess.run(
        [sys.executable, "-m", "made"], cwd=tmp_path,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # as in a terminal
    )  # fmt: skip
    assert done.returncode == 130


def test_where_nobody_listens_it_goes_on() -> None:
    """A shell ignores Ctrl-C for what it runs in the background."""
    process = subprocess.Popen(
        [sys.executable, "-m", "spikemorph", "zoo", "list"], stdout=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )  # fmt: skip
    assert reaches_or_ends(process)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == 0


def reaches_or_ends(process: subprocess.Popen[bytes]) -> bool:
    while process.poll() is None:
        with contextlib.suppress(OSError):
            if "libtorch_cpu" in Path(f"/proc/{process.pid}/maps").read_text():
                return True
    return False


@pytest.mark.parametrize(
    "ask",
    [
        lambda: torch.empty(2**50),
        lambda: np.empty(2**50),
        lambda: bytearray(2**50),
        lambda: torch.empty(2**48, dtype=torch.uint8).numpy(),
    ],
)
def test_memory_that_is_not_there_is_one_line(
    spikemorph: Run, monkeypatch: pytest.MonkeyPatch, ask: Callable[[], object]
) -> None:
    monkeypatch.setattr(memory, "load_graph", lambda *_, **__: ask())
    refused(spikemorph("inspect", "m.onnx"), "not enough memory", "fewer samples")


def test_how_much_was_asked_for_is_said() -> None:
    with pytest.raises(RuntimeError) as torchs:
        torch.empty(2**50)
    assert "4,194,304.0 GiB" in str(shortage(torchs.value))
    with pytest.raises(MemoryError) as numpys:
        np.empty(2**50)
    assert "8,388,608.0 GiB" in str(shortage(numpys.value))
    cuda = RuntimeError("CUDA out of memory. Tried to allocate 20.50 GiB. GPU 0 has 1 GiB")
    assert "20.5 GiB" in str(shortage(cuda))
    assert shortage(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None


def test_other_errors_are_not_taken_for_it(
    call: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(program, "program", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        call("zoo", "list")


def test_under_a_limit_a_command_ends_in_one_line(files: Path) -> None:
    """Half a gigabyte beyond what the modules take; the steps that are asked for need more."""
    process, peak = started("zoo", "list"), 0
    while process.poll() is None:
        with contextlib.suppress(OSError, IndexError):
            text = Path(f"/proc/{process.pid}/status").read_text()
            peak = max(peak, int(text.partition("VmPeak:")[2].split()[0]) << 10)
    process.communicate()
    words = ("--data", "digits:test", "--steps", "100000", "--engine", "dense")
    limit = peak + (1 << 29)
    process = started("evaluate", files / "exact.safetensors", *words, limit=limit)
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 2, said
    assert said.startswith("error: not enough memory") and len(said.splitlines()) == 1, said
