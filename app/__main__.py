"""``python -m spikemorph``."""

from .cli import main

raise SystemExit(main())
