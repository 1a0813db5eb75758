"""Exact counts of what a network does, priced by many models; memory and storage."""
