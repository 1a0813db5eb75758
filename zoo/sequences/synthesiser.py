"""The speech synthesiser eSpeak NG, where it is installed: words to sounds."""

import re
import subprocess
from dataclasses import dataclass

import numpy as np

from spikemorph.graph.errors import InputError

from .spectra import RATE, Sound

_PROGRAM = "espeak-ng"
_INSTALL = "install it: apt install espeak-ng, or brew install espeak-ng"
_PATIENCE = 30.0  # seconds that one word may take
_HEADER = 44  # bytes of a WAV file before its samples


@dataclass(frozen=True)
class Voice:
    """Who speaks, and how."""

    accent: str
    speaker: str  # a variant of the voice
    rate: int  # words a minute
    pitch: int  # 0..99


def synthesiser() -> str:
    """Its name and version, as a name of a folder can be.

    Raises
    ------
    InputError
        If it is not installed, or answers otherwise than it does.
    """
    said = _run("--version").decode(errors="replace")
    found = re.search(r"eSpeak NG text-to-speech: ([0-9][0-9A-Za-z.-]{0,20})", said)
    if found is None:
        raise InputError(f"{_PROGRAM} does not tell its version; {_INSTALL}")
    return f"{_PROGRAM} {found[1]}"


def require_speakers(wanted: frozenset[str]) -> None:
    """Refuse a synthesiser without these speakers: it would speak with another voice, and not say so.

    Raises
    ------
    InputError
        Naming them.
    """
    listed = re.findall(r"!v/(\S+)", _run("--voices=variant").decode(errors="replace"))
    missing = sorted(wanted - set(listed))
    if missing:
        raise InputError(f"{_PROGRAM} has no speaker {', '.join(missing)}; {_INSTALL}")


def spoken(word: str, voice: Voice) -> Sound:
    """The sound (sample,) of a word, 22,050 samples a second.

    Raises
    ------
    InputError
        If the synthesiser is not installed, or gives none.
    """
    content = _run(
        *("-v", f"{voice.accent}+{voice.speaker}", "-s", str(voice.rate), "-p", str(voice.pitch)),
        *("-z", "--stdout", word),
    )
    rate = int.from_bytes(content[24:28], "little")
    if content[:4] != b"RIFF" or rate != RATE or len(content) <= _HEADER:
        raise InputError(
            f"{_PROGRAM} gave no sound of {RATE} samples a second for {word!r} by {voice.speaker}"
        )
    return np.frombuffer(content[_HEADER : len(content) // 2 * 2], "<i2")


def _run(*arguments: str) -> bytes:
    try:
        done = subprocess.run((_PROGRAM, *arguments), capture_output=True, timeout=_PATIENCE)
    except FileNotFoundError:
        raise InputError(f"{_PROGRAM} is not installed; {_INSTALL}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(
            f"{_PROGRAM} cannot be run ({type(error).__name__}); {_INSTALL}"
        ) from error
    if done.returncode != 0:
        raise InputError(f"{_PROGRAM} failed with status {done.returncode}; {_INSTALL}")
    return done.stdout
