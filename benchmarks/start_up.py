"""What a command costs before its work begins: its CPU time over that of ``import torch``.

``COMMAND --help`` loads all that the command loads before it opens a file. Every round starts every
process once, so that a busy machine is busy for all of them; the least of all rounds counts.
"""

import os
import subprocess
import sys
from typing import Annotated

import typer

from spikemorph.cli.program import COMMANDS

TORCH = "import torch"


def cpu_seconds(*words: str) -> float:
    """User and system time of one Python process with these arguments."""
    before = os.times()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return (
        after.children_user + after.children_system - before.children_user - before.children_system
    )


def main(
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    only: Annotated[str, typer.Option(help="Names of commands, with commas between them.")] = "",
) -> None:
    """Print a ratio for every command."""
    chosen = only.split(",") if only else list(COMMANDS)
    runs = {TORCH: ("-c", TORCH)}
    runs |= {word: ("-m", "spikemorph", word) for word in ("--version", "--help")}
    runs |= {f"{name} --help": ("-m", "spikemorph", name, "--help") for name in chosen}
    for words in runs.values():
        cpu_seconds(*words)  # files come into the system's cache, modules are compiled
    least = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for name, words in runs.items():
            least[name] = min(least[name], cpu_seconds(*words))
    for name, seconds in least.items():
        print(f"{name:18} {seconds:6.2f} s  {seconds / least[TORCH]:5.2f}")


if __name__ == "__main__":
    typer.run(main)
