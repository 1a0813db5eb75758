"""Run Python with the package of any checkout, and count what it costs."""

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def linked(checkout: Path, into: Path) -> Path:
    """A folder to import `spikemorph` of a checkout from: links to its rooms and to what `app/` holds."""
    if not (checkout / "app" / "__init__.py").is_file():
        raise SystemExit(f"{checkout}: no checkout of spikemorph (app/__init__.py is missing)")
    package = into / "spikemorph"
    package.mkdir(parents=True)
    rooms = [path.parent for path in checkout.glob("*/__init__.py") if path.parent.name != "app"]
    for path in (*rooms, *(checkout / "app").iterdir()):
        if path.name != "__pycache__":
            (package / path.name).symlink_to(path.resolve())
    return into


def python(checkout: Path, arguments: Sequence[str]) -> tuple[float, str]:
    """CPU seconds and standard output of one Python run on one thread."""
    with tempfile.TemporaryDirectory() as folder:
        path = linked(checkout, Path(folder))
        environment = os.environ | {"PYTHONPATH": str(path), "OMP_NUM_THREADS": "1"}
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, *arguments], env=environment, capture_output=True, text=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{checkout}: {done.stderr.strip()}")
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent, done.stdout


def answer(checkout: Path, script: str, *arguments: str) -> Any:
    """The JSON that a script prints on its last line."""
    _, said = python(checkout, ["-c", script, *arguments])
    return json.loads(said.splitlines()[-1])
