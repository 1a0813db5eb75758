"""Exact counts of what a network does, node by node and sample by sample."""
