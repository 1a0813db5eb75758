"""A report is data first: the parts of a run, checked, as JSON files hold them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikemorph.graph import InputError
from spikemorph.graph.plain import read_plain

from .sections import SECTIONS
from .shapes import Plain, Shape, as_plain, checked

FORMAT = "spikemorph-report-1"
PARTS: Mapping[str, Shape] = {
    name: shape
    for section in SECTIONS
    for name, shape in ({section.part: section.shape} | dict(section.beside)).items()
}


@dataclass(frozen=True)
class Report:
    """What is known of one run; any part may be absent.

    Parameters
    ----------
    parts : mapping of str to plain data
        By name (``model``, ``certificate``, ``evaluation``, ...): what the result of that name gives
        as ``to_dict()``. The report keeps a copy.

    Raises
    ------
    InputError
        If a part has an unknown name or not the shape it must have; names the file and the key.
    """

    parts: Mapping[str, Plain]

    def __post_init__(self) -> None:
        plain = {name: as_plain(part, f"{name}.json") for name, part in self.parts.items()}
        for name, part in plain.items():
            if name not in PARTS:
                raise InputError(f"{name}: no part of a report; the parts are {', '.join(PARTS)}")
            checked(part, PARTS[name], f"{name}.json")
        object.__setattr__(self, "parts", plain)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data."""
        return {"format": FORMAT, "parts": as_plain(self.parts, "report")}

    @classmethod
    def from_dict(cls, plain: Plain) -> "Report":
        """The report that `to_dict` gave.

        Raises
        ------
        InputError
            If it is none.
        """
        if not isinstance(plain, Mapping) or plain.get("format") != FORMAT:
            raise InputError(f"report.json: format: should be {FORMAT!r}; write the report again")
        if not isinstance(plain.get("parts"), Mapping):
            raise InputError("report.json: parts: should be an object; write the report again")
        return cls(plain["parts"])


def read_run(path: Path) -> Report:
    """The report of a run folder, of a ``report.json``, or of one part alone.

    Parameters
    ----------
    path : Path
        A folder that holds some of ``model.json``, ``certificate.json``, ``evaluation.json``, ...;
        other files in it are left alone. Or a file that `write_report` wrote.

    Raises
    ------
    InputError
        If nothing of a run is there, or a file is no JSON or not what it should be; names the file
        and the key.
    """
    if path.is_file():
        plain = _read_json(path)
        if isinstance(plain, dict) and plain.get("format") == FORMAT:
            return Report.from_dict(plain)
        if path.stem in PARTS:  # one part alone, as a command wrote it
            return Report({path.stem: plain})
        raise InputError(
            f"{path}: is no report; give the folder of a run, a report.json, or one part called "
            f"{_names({name: Path(f'{name}.json') for name in PARTS})}"
        )
    files = {name: path / f"{name}.json" for name in PARTS}
    found = {name: _read_json(file) for name, file in files.items() if file.is_file()}
    if not found:
        raise InputError(f"{path}: no part of a run is in it; the parts are {_names(files)}")
    return Report(found)


def holds_parts(folder: Path) -> bool:
    """Whether `read_run` finds a part of a run in a folder."""
    return any((folder / f"{name}.json").is_file() for name in PARTS)


def _names(files: Mapping[str, Path]) -> str:
    return ", ".join(file.name for file in files.values())


def _read_json(path: Path) -> Plain:
    try:
        return read_plain(path.read_bytes(), path.name)
    except OSError as error:
        raise InputError(f"{path.name}: cannot be read ({error}); write it again") from error
