"""Why a file could not be had, in one line."""


def reason(error: Exception) -> str:
    """The first line of what an exception says, or its kind if it says nothing."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return next(iter(str(error).splitlines()), "") or type(error).__name__
