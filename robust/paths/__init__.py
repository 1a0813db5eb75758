"""Gradient paths: the network's own forward pass with another backward rule."""
