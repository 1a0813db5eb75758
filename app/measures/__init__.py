"""Measure a network: accuracy over time, spikes, robustness; what becomes of it, several side by side."""
