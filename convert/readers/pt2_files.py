"""Read a file that torch.export.save wrote; loaded with the first, as torch's own reader takes long."""

from pathlib import Path

from torch.export.pt2_archive._package import load_pt2

from spikemorph.graph import Graph, InputError

from .assembly import first_line
from .pt2_archives import plain_archive
from .read_torch import quietly, read_program


def read_pt2(path: Path) -> Graph:
    """Read a file written by torch.export.save, without unpickling anything.

    Raises
    ------
    InputError
        If the file is missing, damaged, holds pickled objects, or is no exported program.
    UnsupportedError
        Naming every call that cannot be taken.
    """
    archive = plain_archive(path)
    try:
        with quietly():
            program = load_pt2(archive).exported_programs["model"]
    except Exception as error:  # the loader raises many kinds, all of them about the file
        reason = first_line(error)
        raise InputError(f"{path}: not a readable exported program: {reason}") from error
    return read_program(program, str(path))
