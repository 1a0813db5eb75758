"""The section on how to make the same run again."""

from collections.abc import Mapping

from ...provenance import Provenance
from ..blocks import Block, Cell, Code, Prose, Table
from ..shapes import Plain, shape_of

SHAPE = shape_of(Provenance)


def reproduce(parts: Mapping[str, Plain]) -> list[Block]:
    """Command, versions, seeds, hashes."""
    part = parts["reproduce"]
    blocks: list[Block] = [
        Prose("This command makes the run again; the hashes tell whether it is the same."),
        Code(part["command"]),
    ]
    rows = tuple(
        (f"{kind}, {name}", Cell(str(value), "code"))
        for key, kind in (("versions", "version"), ("seeds", "seed"), ("hashes", "SHA-256"))
        for name, value in part.get(key, {}).items()
    )
    if rows:
        blocks.append(Table("Made with", ("<What", "<Value"), rows))
    return blocks
