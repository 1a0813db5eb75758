"""Where downloaded files are kept between runs."""

import os
import sys
from pathlib import Path

from spikemorph.graph.errors import InputError

from .reasons import reason


def default_home() -> Path:
    """`SPIKEMORPH_HOME`, or a folder of our own among the platform's caches."""
    chosen = os.environ.get("SPIKEMORPH_HOME")
    if chosen:
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "spikemorph"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "spikemorph"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spikemorph"


def made(folder: Path) -> Path:
    """The folder, created if it was missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be made ({reason(error)}); "
            "set SPIKEMORPH_HOME to a folder you can write"
        ) from error
    return folder
