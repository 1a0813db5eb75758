"""Check that a .pt2 archive can be loaded without running anything that it holds.

``torch.export.load`` unpickles the members that the archive says are pickled, evaluates the archive's
size expressions, looks up the names of its calls, and what it returns executes guards that the
archive writes down. So only members of known kinds pass, none pickled, all sizes and names plain,
without guards (exports hold none).
"""

import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from spikemorph.graph import InputError

_MEMBERS = re.compile(
    r"archive_format|archive_version|byteorder|version|\.data/(version|serialization_id)"
    r"|\.format_version|\.storage_alignment"
    r"|data/weights/(weight_\d+|[^/]+_weights_config\.json)"
    r"|data/constants/(tensor_\d+|[^/]+_constants_config\.json)"
    r"|data/sample_inputs/[^/]+\.pt|models/[^/]+\.json"
)
_CALL = "target of a node"
_CALLED = re.compile(r"torch\.ops(\.\w+){2,3}|_?operator\.\w+|math\.\w+|torch\.sym_\w+")
_SIZE = re.compile(
    r"(?:[su]\d+|Symbol\('[su]\d+'(, (positive|integer|nonnegative)=(True|False))*\)"
    r"|Eq|Ne|Mod|FloorDiv|Max|Min|[\s\d()+*/<>=,-])*"
)


def require_plain(path: Path) -> None:
    """Refuse an archive with a member that could only be loaded by running it.

    Raises
    ------
    InputError
        If it has one, or is damaged.
    """
    try:
        if not zipfile.is_zipfile(path):
            raise InputError(f"{path}: not a .pt2 archive; write it with torch.export.save")
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            _require_known(path, names)
            for name in names:
                _require_plain_member(path, name, archive)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError) as error:
        raise InputError(f"{path}: the archive is damaged ({error}); export it again") from error
    except (ValueError, RuntimeError) as error:  # bad JSON; an encrypted member
        raise InputError(
            f"{path}: the archive cannot be read ({error}); export it again"
        ) from error


def _require_known(path: Path, names: list[str]) -> None:
    inner = [name.partition("/")[2] for name in names]
    if "data.pkl" in inner:
        raise InputError(
            f"{path}: this is a pickled checkpoint, which is never loaded; give the code as "
            "package.module:factory and the weights as safetensors with --weights"
        )
    for name, short in zip(names, inner, strict=True):
        if not _MEMBERS.fullmatch(short):
            raise InputError(
                f"{path}: member {name!r} has no place in an exported program; "
                "write it with torch.export.save of a recent torch"
            )


def _require_plain_member(path: Path, name: str, archive: zipfile.ZipFile) -> None:
    content = archive.read(name)  # checks its checksum too
    if name.endswith(".pt"):
        try:
            torch.load(io.BytesIO(content), weights_only=True)
        except Exception as error:  # whatever it raises, plain tensors it is not
            raise InputError(f"{path}: member {name!r} is pickled; export it again") from error
    if name.endswith(".json"):
        for key, value in _entries(json.loads(content)):
            pickled = key == "use_pickle" and value is not False
            foreign = key == "path_name" and not re.fullmatch(r"(weight|tensor)_\d+", str(value))
            if pickled or foreign:
                raise InputError(f"{path}: member {name!r} asks to unpickle; export it again")
            if key == "expr_str" and not _SIZE.fullmatch(str(value)):
                raise InputError(f"{path}: member {name!r} holds the size {str(value)[:40]!r}")
            if key == "guards_code" and value:
                raise InputError(
                    f"{path}: member {name!r} holds guards to execute; export it again"
                )
            if key == _CALL and not _CALLED.fullmatch(str(value)):
                raise InputError(f"{path}: member {name!r} calls {str(value)[:40]!r}")


def _entries(plain: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, at any depth; what a node calls comes as `_CALL`."""
    if isinstance(plain, dict):
        yield from plain.items()
        if "target" in plain and "inputs" in plain:
            yield _CALL, plain["target"]
        plain = list(plain.values())
    if isinstance(plain, list):
        for item in plain:
            yield from _entries(item)
