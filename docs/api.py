"""The reference of the Python interface as one page, from signatures and docstrings.

python docs/api.py build/docs/api.html
"""

import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any

from jinja2 import Environment

FRONT = "spikemorph"
ROOMS = (  # in the order in which a reader meets them
    "zoo", "graph", "convert", "quant", "spiking", "energy", "robust", "prune", "surrogate", "train",
)  # fmt: skip
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>spikemorph: Python reference</title>
<style>
  :root { color-scheme: light dark; }
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem }
  pre { font: 13px/1.45 ui-monospace, monospace; white-space: pre-wrap; margin: .3rem 0 1.2rem }
  h3 { margin: 1.6rem 0 0 } h4 { margin: .6rem 0 0 1.5rem }
  h4 + pre, h4 + pre + pre { margin-left: 1.5rem }
  .call { font-weight: 600; margin-bottom: 0; }
</style>
<h1>Python reference</h1>
<p>{% for place in places %}<a href="#{{ place.name }}">{{ place.name }}</a>
{{ "· " if not loop.last }}{% endfor %}</p>
{% for place in places %}
<h2 id="{{ place.name }}">{{ place.name }}</h2>
<pre>{{ place.text }}</pre>
{% for entry in place.entries %}
<h{{ entry.depth }} id="{{ place.name }}.{{ entry.name }}">{{ entry.name }}</h{{ entry.depth }}>
{% if entry.signature %}<pre class="call">{{ entry.signature }}</pre>{% endif %}
<pre>{{ entry.text }}</pre>
{% endfor %}{% endfor %}
</html>
"""


@dataclass(frozen=True)
class Entry:
    """One public name: a function, a class, one of its methods, or a value."""

    name: str
    value: Any
    depth: int = 3

    @property
    def signature(self) -> str:
        """How it is called; empty where it is not."""
        if isinstance(self.value, type) and issubclass(self.value, Exception):
            return ""
        try:
            return self.name.rpartition(".")[2] + str(inspect.signature(self.value))
        except (TypeError, ValueError):
            return ""

    @property
    def text(self) -> str:
        """Its docstring; of a value without one, the value."""
        if isinstance(self.value, type | FunctionType | property):
            return inspect.getdoc(self.value) or ""
        return repr(self.value)


@dataclass(frozen=True)
class Place:
    """A package, and what is public there."""

    name: str

    @property
    def text(self) -> str:
        """What the package is for."""
        return inspect.getdoc(import_module(self.name)) or ""

    @property
    def entries(self) -> list[Entry]:
        """Public names, each class followed by its own public methods."""
        return list(entries(self.name))


def public(package: str, name: str) -> Any:
    """What a package gives by that name; a function also where a room has the same name."""
    module = import_module(package)
    value = getattr(module, name)
    return module.__getattr__(name) if inspect.ismodule(value) else value  # `prune` is both


def entries(package: str) -> Iterator[Entry]:
    """What is public in a package."""
    for name in import_module(package).__all__:
        value = public(package, name)
        yield Entry(name, value)
        if isinstance(value, type):
            for found in members(value):
                yield Entry(f"{name}.{found}", inspect.getattr_static(value, found), 4)


def members(kind: type) -> list[str]:
    """Public methods and properties of our own that a class has, in the order of their definition."""
    ours = [base for base in reversed(kind.__mro__) if base.__module__.startswith(FRONT)]
    found = (name for base in ours for name, value in vars(base).items() if _shown(name, value))
    return list(dict.fromkeys(found))


def _shown(name: str, value: Any) -> bool:
    return not name.startswith("_") and isinstance(value, FunctionType | property | classmethod)


def rendered() -> str:
    """The page."""
    places = [Place(FRONT), *(Place(f"{FRONT}.{room}") for room in ROOMS)]
    return Environment(autoescape=True).from_string(PAGE).render(places=places)


if __name__ == "__main__":
    out = Path(sys.argv[1])
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(rendered())
