"""Turn trained networks into certified sparse spiking networks."""

__version__ = "0.1.0"
