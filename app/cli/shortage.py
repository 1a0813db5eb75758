"""What is said where memory could not be had: how much was asked for, and what needs less."""

import re

_ASKED = re.compile(
    r"allocate (?P<number>[\d.]+) ?(?P<unit>bytes|[KMGTP]iB)", re.IGNORECASE
)  # torch, numpy and CUDA all say it like this
_SHORT = re.compile(r"not enough memory|can't allocate memory|out of memory", re.IGNORECASE)
_UNITS = {"kib": 10, "mib": 20, "gib": 30, "tib": 40, "pib": 50, "bytes": 0}  # powers of two
_REPAIR = (
    "give fewer samples (NAME:SPLIT:N), fewer --steps or a smaller --batch, or end other programs"
)


def shortage(error: BaseException) -> str | None:
    """The line for an error that is about memory; None for any other."""
    text = str(error)
    if not isinstance(error, MemoryError) and not _SHORT.search(text):
        return None
    found = _ASKED.search(text)
    if found is None:
        return f"not enough memory; {_REPAIR}"
    asked = float(found["number"]) * 2 ** _UNITS[found["unit"].lower()]
    return f"not enough memory: {asked / 2**30:,.1f} GiB more could not be had; {_REPAIR}"
