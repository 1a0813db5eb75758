"""Sanity gates: checks that pass, raise a red flag, or say that they were not run."""
