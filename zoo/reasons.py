"""Why a file could not be had, in one line."""

_LONGEST = 200  # letters: some errors quote the file


def reason(error: Exception) -> str:
    """The first line of what an exception says, or its kind if it says nothing."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    line = next(iter(str(error).splitlines()), "") or type(error).__name__
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."
