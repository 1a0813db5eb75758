"""``python -m fuzz --inputs 200000 --folder FOLDER``: a campaign; go on by the same command."""

import argparse
import sys
from pathlib import Path

from .campaign import carry_out, loaders_named, table_of
from .loaders import LOADERS


def tell(line: str) -> None:
    """A line, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """The exit status is 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--loaders", help="names with commas between them; all by default")
    parser.add_argument("--folder", type=Path, required=True, help="where it stands, what it found")
    given = parser.parse_args()
    chosen = loaders_named(LOADERS, given.loaders)
    standing = carry_out(chosen, given.inputs, given.seed, given.folder, tell)
    tell("\n".join(table_of(standing)))
    count = sum(standing.findings.values())
    tell(f"{count} findings of {len(standing.findings)} kinds in {standing.seconds:.0f} s")
    for key, times in standing.findings.most_common():
        tell(f"{times:6} {key}")
    return int(count > 0)


raise SystemExit(main())
