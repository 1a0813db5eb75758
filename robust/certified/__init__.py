"""Proofs that no image within eps changes the answer of an exact spiking network."""
