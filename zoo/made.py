"""Files that a program on this machine makes once, and that are kept beside what is fetched."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from spikemorph.graph.errors import InputError
from spikemorph.graph.saving import write_bytes

from .cache import default_home, made
from .fetch import Tell


@dataclass(frozen=True)
class Made:
    """Files that are made, not fetched.

    Parameters
    ----------
    name : str
        Of the folder they are kept in.
    files : tuple of str
        Their names.
    maker : callable
        Gives the program that makes them, with its version: another version makes other files.
    make : callable
        Gives the content of every file.
    """

    name: str
    files: tuple[str, ...]
    maker: Callable[[], str]
    make: Callable[[], Mapping[str, bytes]]


def keep(wanted: Made, home: Path | None = None, tell: Tell | None = None) -> Path:
    """The folder holding the files, which is called after their maker; made now if they are not there.

    Raises
    ------
    InputError
        If their maker is not on this machine, or fails; nothing is left of it then.
    """
    try:
        maker = wanted.maker()
        folder = (home or default_home()) / wanted.name / maker
        if all((folder / file).is_file() for file in wanted.files):
            return folder
        if tell is not None:
            tell(f"{wanted.name}: being made by {maker}")
        contents = wanted.make()
    except InputError as error:
        raise error.under(wanted.name) from error
    for file in wanted.files:
        write_bytes(made(folder) / file, contents[file])
    return folder
