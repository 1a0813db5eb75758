"""What made a run: its command, the versions and seeds it used, the hashes of what came out."""

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

PACKAGES = ("spikemorph", "torch", "numpy", "safetensors", "lightning-fabric")


@dataclass(frozen=True)
class Provenance:
    """Command, versions by package, seeds and SHA-256 hashes by what they are of."""

    command: str
    versions: Mapping[str, str]
    seeds: Mapping[str, int]
    hashes: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data."""
        return asdict(self)


def provenance(command: str, seeds: Mapping[str, int], hashes: Mapping[str, str]) -> Provenance:
    """With the versions that run now."""
    versions = {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
    return Provenance(command, versions, seeds, hashes)
