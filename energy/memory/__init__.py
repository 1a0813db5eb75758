"""How much memory a spiking network takes, stored and at work."""
