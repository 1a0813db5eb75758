"""``python -m spikemorph``."""

from .start import main

raise SystemExit(main())
